"""A version appears whole or not at all, whoever else exports, and whatever breaks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keras_seqattn.cli import main
from keras_seqattn.serving import ModelConfig, ModelRepository, ServingError
from keras_seqattn.serving.export import saved_model
from keras_seqattn.serving.export.saved_model import export_text_to_text, next_version, whole_version
from keras_seqattn.serving.loading import saved_model_loader

pytestmark = pytest.mark.tensorflow_only

ROOT = Path(__file__).parents[2]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(folder, content="whole"):
    with whole_version(folder) as beside:
        (beside.path / "sub").mkdir()
        (beside.path / "sub" / "file").write_text(content)
    return beside.version


def test_versions_are_counted_up_from_one(tmp_path):
    folder = tmp_path / "new" / "model"
    assert next_version(folder) == 1
    assert [write(folder).name for _ in range(3)] == ["1", "2", "3"]
    assert names(folder) == ["1", "2", "3"]


def test_the_next_version_follows_the_highest_number_and_other_names_do_not_count(tmp_path):
    for name in ("9", "12", "011", "notes", "13.old", "v20", ".30"):
        (tmp_path / name).mkdir()
    (tmp_path / "14").write_text("a file is in the way as well")
    assert next_version(tmp_path) == 15
    assert write(tmp_path).name == "15"


def test_the_folder_is_open_to_a_server_of_another_user(tmp_path):
    assert stat.S_IMODE(write(tmp_path).stat().st_mode) == 0o755


@pytest.mark.rule("versions.folders")
def test_while_it_is_written_no_version_is_visible(tmp_path):
    with whole_version(tmp_path) as beside:
        (beside.path / "file").write_text("half")
        assert [name for name in names(tmp_path) if name.isdecimal()] == []
        assert next_version(tmp_path) == 1
        assert beside.path.parent == tmp_path  # on the same disk, or it could not be renamed
    assert names(tmp_path) == ["1"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_export_that_fails_leaves_nothing(tmp_path, error):
    write(tmp_path)

    def fail():
        with whole_version(tmp_path) as beside:
            (beside.path / "file").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ["1"]
    assert write(tmp_path).name == "2"


def test_exports_at_the_same_time_get_a_version_each(tmp_path, monkeypatch):
    """Eight threads that all found the same number free when they began to rename."""
    together, answers = threading.Barrier(8, timeout=30), threading.local()

    def late_answer(folder):
        number = next_version(folder)
        if not getattr(answers, "first", False):
            answers.first = True
            together.wait()
        return number

    monkeypatch.setattr(saved_model, "next_version", late_answer)
    versions = []
    threads = [threading.Thread(target=lambda i=i: versions.append(write(tmp_path, str(i)))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(version.name for version in versions) == names(tmp_path) == [str(number) for number in range(1, 9)]
    assert {(version / "sub" / "file").read_text() for version in versions} == set("01234567")


def test_only_what_no_process_writes_any_more_is_cleared_away(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive = f".writing-{gone.pid}-abc", f".writing-{os.getpid()}-abc"
    for name in (dead, alive, ".writing-what", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("half")
    assert write(tmp_path).name == "1"
    assert names(tmp_path) == sorted(["1", alive, ".writing-what", "notes"])


def test_an_export_without_a_warm_up_text_is_refused(echo, tmp_path):
    with pytest.raises(ValueError, match="`warmup_texts` must hold at least one text.*Received none"):
        export_text_to_text(echo, tmp_path / "m", {}, [])
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_a_real_export_shows_nothing_until_it_is_whole_and_leaves_nothing_when_its_last_file_fails(
    dates_run, tmp_path, monkeypatch, capsys
):
    folder, seen = tmp_path / "dates", []
    write_card = saved_model.write_card

    def watch(answering, path, *rest):
        seen.append((names(folder), sorted(os.listdir(path))))
        if len(seen) == 1:
            raise OSError(28, "No space left on device")
        write_card(answering, path, *rest)

    monkeypatch.setattr(saved_model, "write_card", watch)
    assert main(["export", str(dates_run), "--to", str(tmp_path)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert names(folder) == []
    assert main(["export", str(dates_run), "--to", str(tmp_path)]) == 0
    for versions, files in seen:
        assert len(versions) == 1
        assert versions[0].startswith(".writing-")
        assert {"saved_model.pb", "variables", "assets.extra"} <= set(files)
    assert names(folder) == ["1"]
    assert (folder / "1" / "model_card.json").is_file()


HANGING = """
import sys, time
import seqattn
with seqattn.quiet_imports():
    from keras_seqattn.cli import main
    from keras_seqattn.serving.export import saved_model

def hang(*arguments):
    print("in the middle", flush=True)
    time.sleep(600)

saved_model.write_card = hang
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_export_leaves_no_version_and_the_next_one_clears_up(dates_run, tmp_path, capsys):
    arguments = ["export", str(dates_run), "--to", str(tmp_path)]
    folder = tmp_path / "dates"
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout.readline() == "in the middle\n"
        (half,) = names(folder)
        assert half.startswith(f".writing-{process.pid}-")
        assert (folder / half / "saved_model.pb").is_file()
        # A server beside it sees nothing, and another export neither waits nor takes the folder away.
        repository = ModelRepository([ModelConfig("dates", str(folder))], saved_model_loader(), max_num_load_retries=0)
        repository.poll()
        with pytest.raises(ServingError, match="Could not find any versions of model dates"):
            repository.statuses("dates")
        repository.close()
        assert main(arguments) == 0
        assert names(folder) == sorted([half, "1"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert names(folder) == sorted([half, "1"])
    assert main(arguments) == 0
    assert names(folder) == ["1", "2"]
