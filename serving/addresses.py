"""Where a server listens: taken before it answers, and told as clients on this machine write it."""

import socket

__all__ = ["bound_socket", "bracketed", "local_address"]


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound and does not listen yet; port 0 takes a free one.

    Raises: OSError when the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small replies at once only on sockets that name the protocol; else each takes 40 ms more.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"Cannot listen on {host}, port {port}: {error.strerror}") from None
    return bound


def bracketed(host: str) -> str:
    """A host as it stands before a colon and a port: `[::1]`."""
    return f"[{host}]" if ":" in host else host


def local_address(host: str, port: int | None) -> str:
    """`127.0.0.1:8501`; what listens on all addresses is reached by `localhost`."""
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"{bracketed(host)}:{port}"
