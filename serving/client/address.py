"""Where a server is: `http://host:8501`, `https://host`, `grpc://host:8500`, `grpcs://host:8500`."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Address", "parse_address"]

_PORTS = {"http": 8501, "https": 443, "grpc": 8500, "grpcs": 8500}  # those of TensorFlow Serving, and of the web


@dataclass(frozen=True)
class Address:
    """A server.

    Args:
        scheme: `http`, `https`, `grpc` or `grpcs`.
        netloc: host and port.
        path: before the API's own, as behind a proxy; without a slash at the end.
        is_loopback: whether it is this machine, which no proxy stands before.
    """

    scheme: str
    netloc: str
    path: str
    is_loopback: bool

    @property
    def is_grpc(self) -> bool:
        """Whether it speaks gRPC."""
        return self.scheme in ("grpc", "grpcs")

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme in ("https", "grpcs")

    def __str__(self) -> str:
        """The URL."""
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse_address(url_or_host: str) -> Address:
    """Reads a URL; a host alone is one of REST.

    Raises: ValueError when it is no such URL.
    """
    url = url_or_host if "://" in url_or_host else f"http://{url_or_host}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"That is not a URL: {error}. Received: {url_or_host!r}.") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(
            f"A server is at http://host:port, https://host:port, grpc://host:port or grpcs://host:port. "
            f"Received: {url_or_host!r}."
        )
    netloc = parts.netloc
    if port is None and parts.scheme != "https":
        netloc = f"{netloc.rstrip(':')}:{_PORTS[parts.scheme]}"
    return Address(parts.scheme, netloc, parts.path.rstrip("/"), _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
