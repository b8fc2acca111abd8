"""TLS for gRPC, by the text proto of `--ssl_config_file`."""

import os
from functools import cache
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["server_credentials"]


def server_credentials(path: str | os.PathLike[str]) -> Any:
    """Reads a text proto SSLConfig; `client_verify: true` asks each client for a certificate of `custom_ca`.

    Returns: `grpc.ServerCredentials`.
    Raises: ServingError; NOT_FOUND without the file, INVALID_ARGUMENT when it is not such a proto, has no key or
        certificate, or wants clients verified without an authority to verify them by.
    """
    from google.protobuf import text_format

    with packages_of_extra("serving"):
        import grpc

    config = _ssl_config_class()()
    try:
        with open(path, encoding="utf-8") as file:
            text_format.Parse(file.read(), config)
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"Cannot read the SSL config file {path}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError):
        # Without the parser's words: they quote the line, which may be the private key.
        raise ServingError(Code.INVALID_ARGUMENT, f"Invalid protobuf file: '{path}'") from None
    if not config.server_key or not config.server_cert:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"The SSL config file {path} needs server_key and server_cert, both as PEM text."
        )
    if config.client_verify and not config.custom_ca:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"client_verify in the SSL config file {path} needs custom_ca, as PEM text."
        )
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


@cache
def _ssl_config_class() -> Any:
    """`tensorflow.serving.SSLConfig`, which the package of TensorFlow Serving's protos leaves out."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow_serving/config/ssl_config.proto", package="tensorflow.serving", syntax="proto3"
    )
    message = file.message_type.add(name="SSLConfig")
    for number, name in enumerate(("server_key", "server_cert", "custom_ca", "client_verify"), start=1):
        message.field.add(
            name=name,
            number=number,
            label=field.LABEL_OPTIONAL,
            type=field.TYPE_BOOL if name == "client_verify" else field.TYPE_STRING,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.SSLConfig"))
