"""A run's folder: settings, checkpoints, curves, the trained model and its figures.

runs/RECIPE/
    config.json              recipe, settings, what the data was
    checkpoints/             the state after the newest epoch, weights and optimizer
    tensorboard/             scalars, sample answers, alignments, gates
    model.keras              the model as trained
    metrics.json             final figures on the test part, a flat object

where texts are answered with texts also
    source_tokenizer.json, target_tokenizer.json
    lengths.json             greatest lengths, in tokens, of what is read and written
    samples.json             a few texts, which TensorBoard shows and an export warms up with

and where one text is read
    tokenizer.json
    pictures/                what the trained model does inside

and where texts are classified
    tokenizer.json
    labels.json              the name of each class
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DONE = "metrics.json"  # written last
WRITING = ".writing-"  # what is not complete yet


class RunError(ValueError):
    """A run folder that cannot be used as asked."""


class RunFolder:
    """The files of one run, each complete or not there at all.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.model = self.path / "model.keras"
        self.tokenizer = self.path / "tokenizer.json"
        self.source_tokenizer = self.path / "source_tokenizer.json"
        self.target_tokenizer = self.path / "target_tokenizer.json"

    @classmethod
    def start(cls, path: str | os.PathLike[str], config: Mapping[str, Any], resume: bool = False) -> RunFolder:
        """A new folder, or one to go on with.

        Raises: RunError when the folder exists and `resume` was not asked for, or it holds a run of other settings.
        """
        run = cls(path)
        if run.path.exists() and any(run.path.iterdir()):
            if not resume:
                raise RunError(
                    f"The run folder {run.path} exists, and a run is never overwritten. Continue it with --resume, "
                    "name another with --run-dir, or remove it."
                )
            run.check_same(config)
            run.remove_leftovers()
        else:
            run.write_json("config.json", config)
            run.checkpoints.mkdir(exist_ok=True)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of a finished run.

        Raises: RunError when there is none, or the run did not finish.
        """
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise RunError(f"A run folder holds config.json. Received: {run.path}, which has none.")
        if not run.model.is_file():
            raise RunError(
                f"The run in {run.path} has not finished: it has no {run.model.name}. Continue it with --resume."
            )
        return run

    @property
    def is_done(self) -> bool:
        """Whether the run has its final figures."""
        return (self.path / DONE).is_file()

    def remove_leftovers(self) -> None:
        """Removes what a killed process had not written to its end."""
        for path in self.path.rglob(f"{WRITING}*"):
            shutil.rmtree(path, ignore_errors=True)

    def check_same(self, config: Mapping[str, Any]) -> None:
        """Raises RunError unless the folder's settings are `config`."""
        if not (self.path / "config.json").is_file():
            raise RunError(f"The folder {self.path} is not empty and holds no run: it has no config.json.")
        old, new = self.read_json("config.json"), json.loads(json.dumps(config))
        differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if differing:
            changes = ", ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in differing)
            raise RunError(f"The run in {self.path} was started with other settings: {changes}.")

    def check_data(self, fingerprint: str) -> None:
        """Raises RunError unless the run was trained on data of this fingerprint."""
        known = self.read_json("config.json")["data_fingerprint"]
        if fingerprint != known:
            raise RunError(
                "A run is evaluated on the test part of the data that it was trained on. "
                f"Received: data of fingerprint {fingerprint[:8]}, for a run on {known[:8]}."
            )

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes `content` as NAME in the folder."""
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        self.replace(self.path / name, lambda path: path.write_text(text, encoding="utf-8"))

    def read_json(self, name: str) -> dict[str, Any]:
        """The content of NAME in the folder."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def save_model(self, model: Any, path: Path) -> None:
        """Writes a Keras model, optimizer included, to `path`, which ends in .keras."""
        self.replace(path, model.save)

    @staticmethod
    def replace(path: Path, write: Callable[[Path], Any]) -> None:
        """Has `write` fill a file beside `path`, which then takes its place at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=WRITING) as folder:
            beside = Path(folder) / path.name
            write(beside)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
