"""Labels, reloads and roll-outs: section 11 of the contract. Servables are stand-ins here."""

import threading
import time
from pathlib import Path

import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError, VersionPolicy
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.model_config import configs_from_proto, read_config_file
from tests.serving.test_repository import Shop, states

BOTH = VersionPolicy("specific", versions=(1, 2))


def serving(repository: ModelRepository, label: str | None = None, name: str = "m") -> int:
    with repository.lease(name, label=label) as lease:
        return lease.version


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.add("1", "2")
    return shop


def config(shop: Shop, policy: VersionPolicy = BOTH, name: str = "m", **labels: int) -> ModelConfig:
    return ModelConfig(name, str(shop.folder), policy, labels)


def repository_of(shop: Shop, *configs: ModelConfig, allow: bool = False, retries: int = 0) -> ModelRepository:
    repository = ModelRepository(
        configs or [config(shop)],
        shop.load,
        max_num_load_retries=retries,
        allow_labels_for_unavailable=allow,
        poll_wait_seconds=0.02,
    )
    repository.poll()
    return repository


def refused(repository: ModelRepository, *configs: ModelConfig) -> ServingError:
    with pytest.raises(ServingError) as raised:
        repository.reload(configs)
    return raised.value


@pytest.mark.rule("labels.pointers")
def test_a_label_is_a_pointer_for_requests(shop: Shop) -> None:
    """Section 11: labels are only pointers for requests; section 7: they do not stand in the status."""
    repository = repository_of(shop)
    repository.reload([config(shop, stable=1, canary=2)])
    assert (serving(repository, "stable"), serving(repository, "canary"), serving(repository)) == (1, 2, 2)
    assert shop.loaded == ["2", "1"]  # and not again


@pytest.mark.rule("error.unknown-label")
@pytest.mark.parametrize("name", ["m", "unheard_of"])
def test_an_unknown_label_is_invalid_whatever_the_model(shop: Shop, name: str) -> None:
    """Section 2: unknown label, also of an unknown model: 400 `Unrecognized servable version label: L`."""
    repository = repository_of(shop)
    repository.reload([config(shop, stable=1)])
    with pytest.raises(ServingError) as raised:
        serving(repository, "other", name)
    assert raised.value.code == Code.INVALID_ARGUMENT
    assert raised.value.code.http_status == 400
    assert raised.value.message == "Unrecognized servable version label: other"


@pytest.mark.rule("labels.available-versions")
def test_a_label_may_only_point_to_an_available_version(shop: Shop) -> None:
    """Section 11: else FAILED_PRECONDITION; nothing changes."""
    repository = repository_of(shop)
    repository.reload([config(shop, stable=1)])
    error = refused(repository, config(shop, stable=1, canary=3))
    assert error.code == Code.FAILED_PRECONDITION
    assert error.message == (
        "Request to assign label to version 3 of model m, which is not currently available for inference"
    )
    assert serving(repository, "stable") == 1
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        serving(repository, "canary")


@pytest.mark.rule("labels.at-the-start")
def test_labels_at_start_up_fail(shop: Shop) -> None:
    """Section 11: at start-up no version is available yet."""
    with pytest.raises(ServingError, match="Request to assign label to version 1 of model m, which is not currently"):
        ModelRepository([config(shop, stable=1)], shop.load)


@pytest.mark.rule("labels.at-the-start")
def test_labels_at_start_up_can_be_allowed(shop: Shop) -> None:
    """Section 11: the flag allows unavailable versions for labels that are not in use yet."""
    repository = ModelRepository([config(shop, stable=1, next=3)], shop.load, allow_labels_for_unavailable=True)
    repository.poll()
    assert serving(repository, "stable") == 1
    with pytest.raises(ServingError) as raised:
        serving(repository, "next")
    assert (raised.value.code, raised.value.message) == (
        Code.NOT_FOUND,
        "Servable not found for request: Specific(m, 3)",
    )


@pytest.mark.rule("labels.moving")
def test_moving_a_label_always_needs_a_loaded_target(shop: Shop) -> None:
    """Section 11: even where unavailable versions are allowed."""
    repository = repository_of(shop, config(shop, stable=1), allow=True)
    error = refused(repository, config(shop, stable=3))
    assert error.code == Code.FAILED_PRECONDITION
    assert serving(repository, "stable") == 1
    repository.reload([config(shop, stable=2)])
    assert serving(repository, "stable") == 2


@pytest.mark.rule("reload.replaces")
def test_a_label_that_is_left_out_is_gone(shop: Shop) -> None:
    """Section 11: the new list replaces the old one, labels included."""
    repository = repository_of(shop)
    repository.reload([config(shop, stable=1, canary=2)])
    repository.reload([config(shop, stable=1)])
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        serving(repository, "canary")


@pytest.mark.rule("labels.canary")
def test_a_canary_is_promoted_and_rolled_back_by_its_label(shop: Shop) -> None:
    """Section 11: specific 1, 2, stable=1, canary=2; promote by moving the label, roll back by moving it back."""
    repository = repository_of(shop)
    for stable, canary in ((1, 2), (2, 2), (1, 2)):
        repository.reload([config(shop, stable=stable, canary=canary)])
        assert (serving(repository, "stable"), serving(repository, "canary")) == (stable, canary)


@pytest.mark.rule("labels.canary")
def test_a_version_is_rolled_back_by_pinning_it(shop: Shop) -> None:
    """Section 11: roll back by pinning `specific`; the label of the version that goes points to nothing."""
    repository = repository_of(shop, config(shop, VersionPolicy("latest")))
    assert serving(repository) == 2
    repository.reload([config(shop, VersionPolicy("specific", versions=(1,)))])
    repository.poll()
    assert serving(repository) == 1
    assert states(repository) == {2: "END", 1: "AVAILABLE"}


@pytest.mark.rule("labels.pointers")
def test_a_label_outlives_its_version(shop: Shop) -> None:
    """Section 11: a label is only a pointer; requests by it then fail as those by the version's number."""
    repository = repository_of(shop)
    repository.reload([config(shop, canary=2)])
    (shop.folder / "2").rmdir()
    repository.poll()
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(m, 2\)"):
        serving(repository, "canary")


@pytest.mark.rule("reload.waits", "reload.replaces")
def test_a_reload_returns_once_new_models_are_available(shop: Shop, tmp_path: Path) -> None:
    """Section 11: the new list replaces the old one, left-out models are unloaded; returns once NEW models serve."""
    repository = repository_of(shop)
    other = Shop(tmp_path / "other")
    timer = threading.Timer(0.15, other.add, ["7"])
    timer.start()
    started = time.monotonic()
    repository.reload([config(other, VersionPolicy(), "n")], timeout_seconds=30)
    assert time.monotonic() - started > 0.1
    assert serving(repository, name="n") == 7
    assert states(repository) == {2: "END", 1: "END"}
    timer.join()


@pytest.mark.rule("reload.waits")
def test_a_reload_does_not_wait_for_known_models(shop: Shop) -> None:
    """Section 11: returns once NEW models are available."""
    repository = repository_of(shop)
    shop.broken.add("3")
    shop.add("3")
    repository.reload([config(shop, VersionPolicy("latest"))], timeout_seconds=30)
    assert serving(repository) == 2


@pytest.mark.rule("reload.errors")
def test_a_reload_fails_with_a_new_model_that_does_not_load(shop: Shop, tmp_path: Path) -> None:
    """Section 11: the error comes back, and the config that was valid stays."""
    repository = repository_of(shop)
    other = Shop(tmp_path / "other")
    shop.broken.add("7")
    other.add("7")
    error = refused(repository, config(shop), config(other, VersionPolicy(), "n"))
    assert error.code == Code.UNKNOWN
    assert error.message == (
        "1 model(s) did not become available: {{name: n version: 7 due to error: DATA_LOSS: 7 is broken}, }"
    )
    assert repository.names() == ["m", "n"]


@pytest.mark.rule("reload.waits")
def test_a_reload_waits_no_longer_than_asked(shop: Shop, tmp_path: Path) -> None:
    """Section 8: the client's deadline is the time to wait."""
    repository = repository_of(shop)
    other = Shop(tmp_path / "other")
    with pytest.raises(ServingError) as raised:
        repository.reload([config(other, VersionPolicy(), "n")], timeout_seconds=0.1)
    assert raised.value.code == Code.DEADLINE_EXCEEDED


def test_a_reload_ends_when_the_server_stops(shop: Shop, tmp_path: Path) -> None:
    repository = repository_of(shop)
    other = Shop(tmp_path / "other")
    timer = threading.Timer(0.1, repository.close)
    timer.start()
    assert refused(repository, config(other, VersionPolicy(), "n")).code == Code.CANCELLED
    timer.join()


@pytest.mark.rule("config.unique-names", "config.absolute-paths")
def test_a_list_that_breaks_a_rule_changes_nothing(shop: Shop) -> None:
    """Section 11: names are unique, paths absolute."""
    repository = repository_of(shop)
    repository.reload([config(shop, stable=1)])
    for bad in ([config(shop), config(shop)], [ModelConfig("m", "relative")]):
        assert refused(repository, *bad).code == Code.INVALID_ARGUMENT
    assert serving(repository, "stable") == 1


@pytest.mark.rule("config.file")
def test_a_config_file_names_labels(tmp_path: Path) -> None:
    """Section 11: `version_labels { key value }`."""
    file = tmp_path / "models.config"
    file.write_text("""model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow"
        version_labels { key: "stable" value: 2 } version_labels { key: "canary" value: 3 } } }""")
    (read,), notes = read_config_file(file)
    assert dict(read.labels) == {"stable": 2, "canary": 3}
    assert notes == ()
    assert len({read, read}) == 1  # can stand in a set


@pytest.mark.rule("reload.lists-only")
def test_a_config_of_another_kind_is_refused() -> None:
    """Section 11: `... Only ModelConfigList is currently supported`."""
    from tensorflow_serving.config import model_server_config_pb2

    proto = model_server_config_pb2.ModelServerConfig()
    proto.custom_model_config.SetInParent()
    with pytest.raises(ServingError, match="Only ModelConfigList is currently supported") as raised:
        configs_from_proto(proto)
    assert raised.value.code == Code.INVALID_ARGUMENT
