"""What a client shows and checks when it speaks TLS."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_TLS", "ClientTls"]


@dataclass(frozen=True)
class ClientTls:
    """Files in PEM.

    Args:
        ca_file: the certificates that are trusted; None trusts what the machine does.
        certificate_file: of the client, for servers that ask for one.
        key_file: of this certificate.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """For HTTP."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context

    def credentials(self) -> Any:
        """For gRPC."""
        import grpc

        def content(path: str | None) -> bytes | None:
            return None if path is None else Path(path).read_bytes()

        return grpc.ssl_channel_credentials(
            content(self.ca_file), content(self.key_file), content(self.certificate_file)
        )


DEFAULT_TLS = ClientTls()
