"""The parts of a client that its URL chooses."""

from collections.abc import Mapping

from keras_seqattn.serving.client.address import Address
from keras_seqattn.serving.client.calls import Wire
from keras_seqattn.serving.client.grpc_transport import AsyncGrpcTransport, GrpcTransport
from keras_seqattn.serving.client.grpc_wire import GrpcWire
from keras_seqattn.serving.client.http_transport import AsyncHttpTransport, HttpTransport
from keras_seqattn.serving.client.rest_wire import RestWire
from keras_seqattn.serving.client.security import ClientTls

__all__ = ["async_transport_of", "transport_of", "wire_of"]


def wire_of(address: Address) -> Wire:
    """How requests and replies look there."""
    return GrpcWire() if address.is_grpc else RestWire()


def transport_of(address: Address, tls: ClientTls, headers: Mapping[str, str]) -> HttpTransport | GrpcTransport:
    """What carries them and waits."""
    return (GrpcTransport if address.is_grpc else HttpTransport)(address, tls, headers)


def async_transport_of(
    address: Address, tls: ClientTls, headers: Mapping[str, str]
) -> AsyncHttpTransport | AsyncGrpcTransport:
    """What carries them in an event loop."""
    return (AsyncGrpcTransport if address.is_grpc else AsyncHttpTransport)(address, tls, headers)
