"""Versions come and go; one of them always answers. Servables are stand-ins here."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError, VersionPolicy
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.model_config import read_config_file


class FakeServable:
    signatures: Mapping[str, Any] = {}
    signature_defs: Mapping[str, Any] = {}

    def __init__(self, path: str) -> None:
        self.path, self.is_closed = path, False

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Any],
        timeout_seconds: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed = True


class Shop:
    """A base path, a loader that fails on demand, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.loaded = folder / "m", 0.0, list[str]()
        self.folder.mkdir(parents=True)
        self.broken: set[str] = set()

    def load(self, path: str, name: str = "m") -> FakeServable:
        name = Path(path).name
        self.loaded.append(name)
        if name in self.broken:
            raise ServingError(Code.DATA_LOSS, f"{name} is broken")
        return FakeServable(path)

    def add(self, *names: str) -> None:
        for name in names:
            (self.folder / name).mkdir()

    def repository(self, policy: VersionPolicy | None = None, retries: int = 0) -> ModelRepository:
        config = ModelConfig("m", str(self.folder), policy or VersionPolicy())
        return ModelRepository(
            [config], self.load, max_num_load_retries=retries, load_retry_interval_seconds=60, clock=lambda: self.now
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def states(repository: ModelRepository, name: str = "m") -> dict[int, str]:
    return {status.version: status.state for status in repository.statuses(name)}


def serving(repository: ModelRepository, version: int | None = None) -> int:
    with repository.lease("m", version) as lease:
        return lease.version


@pytest.mark.rule("versions.folders", "change.available")
def test_only_integer_folders_are_versions(shop: Shop) -> None:
    nanoseconds, beyond = "1795300000123456789", str(2**63)
    shop.add("00000123", "7", "0" * 30 + nanoseconds, beyond, ".124", "125.partial", "v126", "-5", "1e3")
    (shop.folder / "200").write_text("a file")
    repository = shop.repository(VersionPolicy("all"))
    repository.poll()
    assert states(repository) == {int(nanoseconds): "AVAILABLE", 123: "AVAILABLE", 7: "AVAILABLE"}
    assert shop.loaded == ["0" * 30 + nanoseconds, "00000123", "7"]  # highest first


@pytest.mark.rule("versions.folders")
def test_a_renamed_folder_is_seen_whole(shop: Shop) -> None:
    shop.add("1", ".2")
    repository = shop.repository()
    repository.poll()
    assert serving(repository) == 1
    (shop.folder / ".2").rename(shop.folder / "2")
    repository.poll()
    assert serving(repository) == 2


@pytest.mark.rule("change.available", "status.newest-first", "status.ended-versions")
def test_a_newer_version_is_loaded_before_the_older_one_stops(shop: Shop) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.poll()
    shop.add("2")
    seen = []
    load = shop.load

    def watch(path: str, name: str) -> FakeServable:
        seen.append((serving(repository), states(repository)))
        return load(path)

    repository._loader = watch
    repository.poll()
    assert seen == [(1, {2: "LOADING", 1: "AVAILABLE"})]
    assert states(repository) == {2: "AVAILABLE", 1: "END"}
    assert [status.version for status in repository.statuses("m")] == [2, 1]  # newest first
    with pytest.raises(ServingError, match=r"Specific\(m, 1\)"):
        serving(repository, 1)


@pytest.mark.rule("change.roll-back", "status.ended-versions")
def test_deleting_the_newest_folder_rolls_back(shop: Shop) -> None:
    shop.add("1", "2")
    repository = shop.repository()
    repository.poll()
    (shop.folder / "2").rmdir()
    repository.poll()
    assert states(repository) == {2: "END", 1: "AVAILABLE"}
    assert serving(repository) == 1


@pytest.mark.rule("versions.all-deleted")
def test_deleting_all_folders_unloads_all(shop: Shop) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.poll()
    (shop.folder / "1").rmdir()
    repository.poll()
    assert states(repository) == {1: "END"}
    with pytest.raises(ServingError, match=r"Latest\(m\)"):
        serving(repository)


@pytest.mark.rule("versions.base-path-missing")
def test_a_missing_base_path_leaves_all_models_as_they_are(shop: Shop) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.poll()
    (shop.folder / "1").rmdir()
    shop.folder.rmdir()
    repository.poll()
    assert serving(repository) == 1


@pytest.mark.rule("change.failed-load", "start.later-failures", "status.ended-versions")
def test_a_version_that_fails_leaves_the_older_one_serving(shop: Shop) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.poll()
    shop.broken.add("2")
    shop.add("2")
    repository.poll()
    repository.poll()
    assert shop.loaded == ["1", "2"]  # not tried for ever
    assert serving(repository) == 1
    newest, oldest = repository.statuses("m")
    assert (newest.state, oldest.state) == ("END", "AVAILABLE")
    assert newest.error is not None
    assert (newest.error.code, newest.error.message) == (Code.DATA_LOSS, "2 is broken")


def test_a_failed_version_is_loaded_again_when_its_folder_comes_again(shop: Shop) -> None:
    shop.add("1", "2")
    shop.broken.add("2")
    repository = shop.repository()
    repository.poll()
    assert states(repository) == {2: "END"}
    (shop.folder / "2").rmdir()
    repository.poll()
    assert serving(repository) == 1
    shop.broken.clear()
    shop.add("2")
    repository.poll()
    assert serving(repository) == 2


@pytest.mark.rule("change.retries")
def test_a_failed_load_is_tried_again_after_the_interval(shop: Shop) -> None:
    shop.add("1")
    shop.broken.add("1")
    repository = shop.repository(retries=2)
    for now, loads, state in (
        (0, 1, "LOADING"),
        (59, 1, "LOADING"),
        (60, 2, "LOADING"),
        (120, 3, "END"),
        (999, 3, "END"),
    ):
        shop.now = now
        repository.poll()
        assert (len(shop.loaded), states(repository)) == (loads, {1: state})


@pytest.mark.rule("change.retries")
def test_a_retry_that_succeeds_serves(shop: Shop) -> None:
    shop.add("1")
    shop.broken.add("1")
    repository = shop.repository(retries=1)
    repository.poll()
    shop.broken.clear()
    shop.now = 60
    repository.poll()
    assert serving(repository) == 1
    assert repository.statuses("m")[0].error is None


def test_a_leased_version_is_closed_by_its_last_request(shop: Shop) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.poll()
    with repository.lease("m") as first, repository.lease("m") as second:
        shop.add("2")
        repository.poll()
        assert states(repository) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert first.servable is second.servable
        assert not first.servable.is_closed  # type: ignore[attr-defined]
    assert first.servable.is_closed  # type: ignore[attr-defined]
    assert states(repository) == {2: "AVAILABLE", 1: "END"}


@pytest.mark.rule("policy.versions", "policy.unversioned-requests")
@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        (VersionPolicy("latest", num_versions=2), {3, 5}),
        (VersionPolicy("all"), {2, 3, 5}),
        (VersionPolicy("specific", versions=(2, 5, 7)), {2, 5}),
    ],
)
def test_the_policy_chooses_versions(shop: Shop, policy: VersionPolicy, versions: set[int]) -> None:
    shop.add("2", "3", "5")
    repository = shop.repository(policy)
    repository.poll()
    assert states(repository) == dict.fromkeys(versions, "AVAILABLE")
    assert serving(repository) == max(versions)
    assert serving(repository, min(versions)) == min(versions)


@pytest.mark.rule("reload.replaces")
def test_changed_configs_add_and_remove_models(shop: Shop, tmp_path: Path) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.poll()
    other = Shop(tmp_path / "other")
    other.add("3")
    repository.set_configs([ModelConfig("n", str(other.folder))])
    repository.poll()
    assert states(repository, "n") == {3: "AVAILABLE"}
    assert states(repository) == {1: "END"}


@pytest.mark.rule("config.unique-names", "config.absolute-paths")
def test_names_are_unique_and_paths_absolute(shop: Shop) -> None:
    config = ModelConfig("m", str(shop.folder))
    with pytest.raises(ServingError, match="Illegal to list model m multiple times"):
        ModelRepository([config, config], shop.load)
    with pytest.raises(ServingError, match="Expected model m to have an absolute path or URI"):
        ModelRepository([ModelConfig("m", "relative")], shop.load)


@pytest.mark.rule("start.waits")
def test_start_up_waits_for_a_first_version(shop: Shop) -> None:
    repository = shop.repository()
    repository._poll_wait_seconds = 0.02
    timer = threading.Timer(0.1, shop.add, ["1"])
    timer.start()
    assert repository.wait_until_ready()
    assert serving(repository) == 1
    timer.join()


def test_start_up_can_be_cancelled(shop: Shop) -> None:
    assert not shop.repository().wait_until_ready(lambda: True)


@pytest.mark.rule("start.fails")
def test_start_up_ends_when_a_load_finally_fails(shop: Shop) -> None:
    shop.add("1")
    shop.broken.add("1")
    with pytest.raises(ServingError, match="Version 1 of model m does not load: 1 is broken"):
        shop.repository().wait_until_ready()


@pytest.mark.rule("flags.poll-intervals")
def test_start_up_ends_when_there_is_nothing_and_nothing_is_awaited(shop: Shop) -> None:
    repository = shop.repository()
    repository._poll_wait_seconds = 0
    with pytest.raises(ServingError, match="Model m has no version in"):
        repository.wait_until_ready()


def test_closing_unloads_everything(shop: Shop) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.wait_until_ready()
    repository.start()
    repository.close()
    assert states(repository) == {1: "END"}


@pytest.mark.rule("config.file", "policy.versions")
def test_a_config_file_names_models_policies_and_what_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text("""
        model_config_list {
          config { name: "a" base_path: "/models/a" model_platform: "tensorflow" }
          config { name: "b" base_path: "gs://bucket/b" model_version_policy { specific { versions: 2 versions: 3 } }
                   model_platform: "tensorflow" version_labels { key: "stable" value: 2 } }
          config { name: "c" base_path: "/c" model_type: TENSORFLOW
                   model_version_policy { latest { num_versions: 5 } } }
          config { name: "d" base_path: "/d" model_version_policy { all {} } model_platform: "tensorflow"
                   logging_config {} }
        }
    """)
    configs, notes = read_config_file(file)
    assert configs == (
        ModelConfig("a", "/models/a"),
        ModelConfig("b", "gs://bucket/b", VersionPolicy("specific", versions=(2, 3)), {"stable": 2}),
        ModelConfig("c", "/c", VersionPolicy("latest", num_versions=5)),
        ModelConfig("d", "/d", VersionPolicy("all")),
    )
    assert notes == ("Model d: logging_config is not supported yet; no request is logged.",)


@pytest.mark.rule("config.unparsable-at-the-start", "config.absolute-paths", "config.platform", "reload.lists-only")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig"),
        ("nonsense: 1", "Error parsing text-format tensorflow.serving.ModelServerConfig"),
        (
            'model_config_list { config { name: "a" base_path: "b" model_platform: "tensorflow" } }',
            "absolute path or URI",
        ),
        ('model_config_list { config { name: "a" base_path: "/b" model_platform: "x" } }', "unsupported platform x"),
        ('model_config_list { config { name: "a" base_path: "/b" } }', "Illegal setting neither"),
        ('model_config_list { config { name: "a" base_path: "/b" model_type: OTHER } }', "choice 2 not supported"),
        (
            'model_config_list { config { name: "a" base_path: "/b" model_type: TENSORFLOW model_platform: "x" } }',
            "Illegal setting both ModelServerConfig::model_type",
        ),
        ("custom_model_config {}", "Only ModelConfigList is currently supported"),
    ],
)
def test_a_config_file_that_breaks_a_rule_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(ServingError, match=message):
        read_config_file(file)


def test_a_missing_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"Cannot read the model config file .*models.config"):
        read_config_file(tmp_path / "models.config")
