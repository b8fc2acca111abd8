"""The client over TLS, with certificates on both sides."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository
from keras_seqattn.serving.client.client import Client
from keras_seqattn.serving.client.retries import Retries
from keras_seqattn.serving.client.security import ClientTls
from keras_seqattn.serving.grpc.server import GrpcServer
from keras_seqattn.serving.loading import saved_model_loader
from tests.serving.test_grpc_tls import Certificates

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def url(certificates: Certificates, models: Path) -> Iterator[str]:
    """A server that asks for certificates."""
    config = ModelConfig("half_plus_two", str(models / "half_plus_two"))
    repository = ModelRepository([config], saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    file = certificates.config(certificates.folder / "ssl.config", custom_ca=True, client_verify=True)
    server = GrpcServer(repository, ssl_config_file=file)
    server.start()
    yield f"grpcs://{server.target}"
    server.stop()
    repository.close()


def test_both_sides_show_their_certificates(url: str, certificates: Certificates) -> None:
    def file(name: str) -> str:
        return str(certificates.folder / name)

    tls = ClientTls(file("ca.pem"), file("client.pem"), file("client.key"))
    with Client(url, tls=tls) as client:
        assert client.predict("half_plus_two", [1])["y"].tolist() == [2.5]
    for wrong in (ClientTls(), ClientTls(file("ca.pem"))):
        with (
            Client(url, tls=wrong, retries=Retries(max_attempts=1)) as client,
            pytest.raises(ConnectionError),
        ):
            client.predict("half_plus_two", [1], timeout_seconds=10)
