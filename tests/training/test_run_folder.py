"""A run's folder: never overwritten, continued only when asked and with the same settings, never half-written."""

from __future__ import annotations

import json

import keras
import pytest

from keras_seqattn.training.callbacks import Checkpoints
from keras_seqattn.training.callbacks.checkpoints import saved
from keras_seqattn.training.run_folder import RunError, RunFolder

pytestmark = pytest.mark.tensorflow_only

CONFIG = {"recipe": "dates", "units": 8, "bucket_boundaries": (4, 8)}


@pytest.fixture
def run(tmp_path):
    return RunFolder.start(tmp_path / "run", CONFIG)


def files(folder):
    """Every file below `folder` with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_holds_its_settings(run):
    assert run.read_json("config.json") == {"recipe": "dates", "units": 8, "bucket_boundaries": [4, 8]}
    assert not run.is_done


def test_an_existing_folder_is_left_as_it_is_unless_asked_to_go_on(run):
    before = files(run.path)
    with pytest.raises(RunError, match=r"run exists, and a run is never overwritten.*--resume.*--run-dir"):
        RunFolder.start(run.path, CONFIG)
    with pytest.raises(RunError, match="never overwritten"):
        RunFolder.start(run.path, {**CONFIG, "units": 9})
    assert files(run.path) == before
    RunFolder.start(run.path, CONFIG, resume=True)
    assert files(run.path) == before


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "run").mkdir()
    assert RunFolder.start(tmp_path / "run", CONFIG).read_json("config.json")["units"] == 8


def test_other_settings_are_refused_with_the_differences_named(run):
    before = files(run.path)
    other = {"recipe": "dates", "units": 9, "bucket_boundaries": (4, 9), "seed": 1}
    with pytest.raises(RunError) as refused:
        RunFolder.start(run.path, other, resume=True)
    assert "was started with other settings" in str(refused.value)
    for difference in (
        "units was 8, now 9",
        "bucket_boundaries was [4, 8], now [4, 9]",
        "seed was None, now 1",
    ):
        assert difference in str(refused.value)
    assert "recipe was" not in str(refused.value)
    assert files(run.path) == before


def test_a_folder_of_something_else_is_not_continued(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no run: it has no config.json"):
        RunFolder.start(tmp_path, CONFIG, resume=True)
    assert files(tmp_path) == {"notes.txt": b"mine"}


def test_only_a_finished_run_opens(run, tmp_path):
    with pytest.raises(RunError, match=r"A run folder holds config\.json\. Received: .*nowhere"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has not finished: it has no model\.keras.*--resume"):
        RunFolder.open(run.path)


def test_what_a_killed_process_left_behind_is_removed_when_the_run_goes_on(run):
    (run.checkpoints / ".writing-abc").mkdir()
    (run.checkpoints / ".writing-abc" / "epoch-0001.keras").write_bytes(b"half")
    (run.path / ".writing-def").mkdir()
    (run.checkpoints / "epoch-0002.keras").write_bytes(b"whole")
    assert saved(run) == [(run.checkpoints / "epoch-0002.keras", 2)]
    RunFolder.start(run.path, CONFIG, resume=True)
    assert sorted(files(run.path)) == ["checkpoints/epoch-0002.keras", "config.json"]
    assert not list(run.path.rglob(".writing-*"))


def test_a_file_is_written_beside_its_place_and_the_old_one_stays_until_then(run):
    path = run.path / "note.json"
    run.write_json("note.json", {"a": 1})

    def write(beside):
        beside.write_text("new")
        assert beside.parent.parent == path.parent  # on the same disk, or it could not be renamed
        assert json.loads(path.read_text()) == {"a": 1}

    run.replace(path, write)
    assert path.read_text() == "new"
    assert not list(run.path.glob(".writing-*"))


class Breaking:
    """Saves half a file, and fails."""

    def save(self, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")


def test_a_checkpoint_that_fails_while_it_is_saved_leaves_the_old_one(run):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    checkpoints = Checkpoints(run)
    checkpoints.set_model(model)
    checkpoints.on_epoch_end(0)
    before = files(run.path)
    assert sorted(before) == ["checkpoints/epoch-0001.keras", "config.json"]
    checkpoints._model = Breaking()
    for epoch in (0, 1):  # in place of the same, and beside it
        with pytest.raises(OSError, match="No space left"):
            checkpoints.on_epoch_end(epoch)
        assert files(run.path) == before
    loaded = keras.saving.load_model(run.checkpoints / "epoch-0001.keras")
    assert loaded.count_params() == model.count_params()


def test_the_one_before_is_removed_only_when_the_new_one_is_complete(run):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    seen = []

    class Watched:
        def save(self, path):
            model.save(path)
            seen.append([name.name for name, _ in saved(run)])

    checkpoints = Checkpoints(run)
    checkpoints._model = Watched()
    for epoch in range(3):
        checkpoints.on_epoch_end(epoch)
    assert seen == [[], ["epoch-0001.keras"], ["epoch-0002.keras"]]
    assert [path.name for path, _ in saved(run)] == ["epoch-0003.keras"]


def test_checkpoints_are_counted_by_number_and_other_files_are_none(run):
    for name in ("epoch-0002.keras", "epoch-0010.keras", "epoch-10000.keras", "epoch-.keras", "epoch-1.keras.tmp"):
        (run.checkpoints / name).write_bytes(b"")
    assert [epochs for _, epochs in saved(run)] == [2, 10, 10000]
