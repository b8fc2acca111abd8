"""Versions of real models come and go: section 11 of the contract."""

import gc
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError, VersionPolicy
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.batching import BatchingParameters, batched
from keras_seqattn.serving.models.servable import Servable, load_saved_model
from tests.serving.conftest import write_scaling_model


def load(path: str, name: str = "m") -> Servable:
    return load_saved_model(path)


def load_batched(path: str, name: str = "m") -> Servable:
    return batched(load_saved_model(path), BatchingParameters(max_batch_size=16, max_enqueued_batches=100))


@pytest.fixture(scope="module")
def scales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models `s` that compute s * x, for s of 1 to 3."""
    folder = tmp_path_factory.mktemp("scales")
    for scale in (1, 2, 3):
        write_scaling_model(folder / str(scale), float(scale))
    return folder


class Shelf:
    """A base path where versions are put and taken away; version n computes n * x."""

    def __init__(self, folder: Path, scales: Path) -> None:
        self.folder, self.scales = folder / "m", scales
        self.folder.mkdir()

    def put(self, version: int, scale: int | None = None) -> None:
        shutil.copytree(self.scales / str(scale or version), self.folder / f".{version}")
        (self.folder / f".{version}").rename(self.folder / str(version))

    def put_broken(self, version: int) -> None:
        self.put(version, 1)
        (self.folder / str(version) / "saved_model.pb").write_bytes(b"\xff" * 100)

    def take(self, version: int) -> None:
        (self.folder / str(version)).rename(self.folder / f".gone{version}-{time.monotonic_ns()}")

    def repository(self, policy: VersionPolicy | None = None, loader: Any = load, **options: Any) -> ModelRepository:
        config = ModelConfig("m", str(self.folder), policy or VersionPolicy())
        return ModelRepository([config], loader, max_num_load_retries=0, **options)


@pytest.fixture
def shelf(tmp_path: Path, scales: Path) -> Shelf:
    return Shelf(tmp_path, scales)


def ask(repository: ModelRepository, value: float = 5.0, **which: Any) -> float:
    with repository.lease("m", **which) as lease:
        answer = lease.servable.run("serving_default", {"x": np.float32([value])}, 30.0)["y"]
    return float(answer[0])


@pytest.mark.rule("change.failed-load", "start.later-failures", "status.ended-versions")
def test_several_bad_versions_leave_the_old_one_serving(shelf: Shelf) -> None:
    """Section 11: a new version that fails to load leaves the old one serving; section 7: failed ones stand as END."""
    shelf.put(1)
    repository = shelf.repository()
    repository.poll()
    for version in (2, 3):
        shelf.put_broken(version)
        repository.poll()
        assert ask(repository) == 5
    statuses = {status.version: status for status in repository.statuses("m")}
    assert list(statuses) == [3, 2, 1]
    assert [statuses[version].state for version in (3, 2, 1)] == ["END", "END", "AVAILABLE"]
    for version in (3, 2):
        error = statuses[version].error
        assert error is not None
        assert error.code not in (Code.OK, Code.CANCELLED)
        assert error.message
    shelf.put(4, scale=3)
    repository.poll()
    assert ask(repository) == 15
    repository.close()


@pytest.mark.rule("policy.versions", "policy.unversioned-requests")
def test_bad_versions_among_all_leave_the_good_ones(shelf: Shelf) -> None:
    """Section 11: `all {}`; unversioned requests go to the highest AVAILABLE version."""
    shelf.put(1)
    shelf.put(2)
    shelf.put_broken(3)
    shelf.put_broken(4)
    repository = shelf.repository(VersionPolicy("all"))
    assert repository.wait_until_ready()
    assert (ask(repository), ask(repository, version=1)) == (10, 5)
    with pytest.raises(ServingError, match=r"Specific\(m, 4\)"):
        ask(repository, version=4)
    repository.close()


@pytest.mark.rule("change.roll-back", "versions.all-deleted")
def test_a_deleted_newest_version_rolls_back_and_may_come_again(shelf: Shelf) -> None:
    """Section 11: deleting the newest directory rolls back to the next; without any all are unloaded."""
    shelf.put(1)
    shelf.put(2)
    repository = shelf.repository()
    repository.poll()
    for change, answer in ((None, 10), (lambda: shelf.take(2), 5), (lambda: shelf.put(2, scale=3), 15)):
        if change is not None:
            change()
            repository.poll()
        assert ask(repository) == answer
    shelf.take(1)
    shelf.take(2)
    repository.poll()
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(m\)"):
        ask(repository)
    repository.close()


@pytest.mark.rule("change.available")
@pytest.mark.parametrize("loader", [load, load_batched])
def test_a_hot_swap_fails_no_request(shelf: Shelf, loader: Callable[[str], Servable]) -> None:
    """Section 11: an old version is unloaded only when a new one serves, and not under a request."""
    shelf.put(1)
    repository = shelf.repository(loader=loader, poll_wait_seconds=0.02)
    assert repository.wait_until_ready()
    repository.start()
    stopping, wrong, counts = threading.Event(), list[Any](), [0] * 16

    def client(number: int) -> None:
        while not stopping.is_set():
            value = float(number + 1)
            try:
                with repository.lease("m") as lease:
                    answer = lease.servable.run("serving_default", {"x": np.float32([value])}, 30.0)["y"].tolist()
                scale = (lease.version - 1) % 3 + 1
                if answer != [scale * value]:
                    wrong.append((lease.version, value, answer))
            except Exception as error:
                wrong.append(error)
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        for version in range(2, 8):
            shelf.put(version, scale=(version - 1) % 3 + 1)
            deadline = time.monotonic() + 20
            while not is_available(repository, version):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.15)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        repository.close()
    assert wrong == []
    assert min(counts) > 0


def is_available(repository: ModelRepository, version: int) -> bool:
    return any(status.version == version and status.state == "AVAILABLE" for status in repository.statuses("m"))


@pytest.fixture(scope="module")
def twenty_megabytes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.Variable(tf.random.normal([1024, 5120]))  # 20 MiB
    folder = tmp_path_factory.mktemp("large") / "1"

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    def look_up(x: Any) -> dict[str, Any]:
        return {"y": tf.gather(module.table, x)}

    tf.saved_model.save(module, str(folder), signatures=look_up)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the memory of the process is read from /proc")
@pytest.mark.parametrize("loader", [load, load_batched])
def test_unloading_frees_memory(tmp_path: Path, twenty_megabytes: Path, loader: Callable[[str], Servable]) -> None:
    """Section 11: left-out versions are unloaded: flat over 20 swaps, without help from Python's garbage collector."""
    (tmp_path / "m").mkdir()
    repository = ModelRepository([ModelConfig("m", str(tmp_path / "m"))], loader)
    sizes = []
    gc.disable()
    try:
        for version in range(1, 25):
            (tmp_path / "m" / str(version)).symlink_to(twenty_megabytes)
            repository.poll()
            with repository.lease("m") as lease:
                assert lease.version == version
                lease.servable.run("serving_default", {"x": np.int32([0, 1])})
            sizes.append(resident_bytes())
    finally:
        gc.enable()
        repository.close()
    assert max(sizes[4:]) < 1.05 * sizes[4]
    assert sizes[-1] - sizes[4] < 3 * 20 * 2**20  # and not one model in seven is kept


def resident_bytes() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
