"""TLS over gRPC by `--ssl_config_file` (contract section 10), with certificates made by openssl."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.grpc.server import GrpcServer
from keras_seqattn.serving.loading import saved_model_loader
from tests.serving.test_grpc import Client

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl")


class Certificates:
    """An authority, and what it has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run("req", "-x509", *self._key("ca"), "-subj", "/CN=authority", "-days", "1", "-out", "ca.pem")
        for name in ("server", "client"):
            self._run("req", *self._key(name), "-subj", f"/CN={name}", "-out", f"{name}.csr")
            (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            self._run(
                "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "1", "-extfile", "names", "-out", f"{name}.pem",
            )  # fmt: skip

    def _key(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def config(self, path: Path, *, custom_ca: bool = False, client_verify: bool = False) -> Path:
        """A text proto SSLConfig."""

        def field(name: str, file: str) -> str:
            text = (self.folder / file).read_text().replace("\n", "\\n")
            return f'{name}: "{text}"\n'

        text = field("server_key", "server.key") + field("server_cert", "server.pem")
        text += field("custom_ca", "ca.pem") if custom_ca else ""
        path.write_text(text + f"client_verify: {str(client_verify).lower()}\n")
        return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def repository(models: Path) -> Iterator[ModelRepository]:
    repository = ModelRepository([ModelConfig("m", str(models / "half_plus_two"))], saved_model_loader())
    repository.poll()
    yield repository
    repository.close()


def asks(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode | None:
    """Whether a client with these credentials gets an answer; the code of the error if not."""
    channel = grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
    with channel:
        client = Client(channel)
        try:
            response = client.prediction.Predict(client.predict_request("m", x=np.float32([2])), timeout=10)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        assert list(response.outputs["y"].float_val) == [3.0]
        return None


@pytest.mark.rule("flags.tls")
def test_the_server_proves_who_it_is(certificates: Certificates, repository: ModelRepository, tmp_path: Path) -> None:
    server = GrpcServer(repository, ssl_config_file=certificates.config(tmp_path / "ssl"))
    server.start()
    trusting = grpc.ssl_channel_credentials(certificates.read("ca.pem"))
    assert asks(f"localhost:{server.port}", trusting) is None
    assert asks(server.target, trusting) is None
    assert (
        asks(server.target, grpc.ssl_channel_credentials()) == grpc.StatusCode.UNAVAILABLE
    )  # the system's authorities
    assert asks(server.target, None) == grpc.StatusCode.UNAVAILABLE
    server.stop(0)


@pytest.mark.rule("flags.tls")
def test_clients_prove_who_they_are(certificates: Certificates, repository: ModelRepository, tmp_path: Path) -> None:
    """`client_verify: true`."""
    config = certificates.config(tmp_path / "ssl", custom_ca=True, client_verify=True)
    server = GrpcServer(repository, ssl_config_file=config)
    server.start()
    ca = certificates.read("ca.pem")
    known = grpc.ssl_channel_credentials(ca, certificates.read("client.key"), certificates.read("client.pem"))
    assert asks(server.target, known) is None
    assert asks(server.target, grpc.ssl_channel_credentials(ca)) == grpc.StatusCode.UNAVAILABLE
    other = tmp_path / "other"
    other.mkdir()
    others = Certificates(other)
    stranger = grpc.ssl_channel_credentials(ca, others.read("client.key"), others.read("client.pem"))
    assert asks(server.target, stranger) == grpc.StatusCode.UNAVAILABLE
    server.stop(0)


@pytest.mark.rule("flags.tls")
def test_a_bad_config_is_told(certificates: Certificates, repository: ModelRepository, tmp_path: Path) -> None:
    path = tmp_path / "ssl"
    with pytest.raises(ServingError, match="Cannot read the SSL config file") as raised:
        GrpcServer(repository, ssl_config_file=path)
    assert raised.value.code == Code.NOT_FOUND
    for text, message in (
        ('server_key: "SECRET" server_crt: "x"', "^INVALID_ARGUMENT: Invalid protobuf file: '"),
        ('server_key: "SECRET"', "needs server_key and server_cert"),
    ):
        path.write_text(text)
        with pytest.raises(ServingError, match=message) as raised:
            GrpcServer(repository, ssl_config_file=path)
        assert "SECRET" not in raised.value.message
    with pytest.raises(ServingError, match="needs custom_ca"):
        GrpcServer(repository, ssl_config_file=certificates.config(path, client_verify=True))
    path.write_text('server_key: "SECRET" server_cert: "no certificate"')
    server = GrpcServer(repository, ssl_config_file=path)
    with pytest.raises(OSError, match=r"Cannot listen on 127\.0\.0\.1:\d+") as failed:
        server.start()
    assert "SECRET" not in str(failed.value)
    server.stop()
