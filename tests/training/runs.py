"""Tiny runs that many tests look at: each is trained once a session, through the command line."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_seqattn.cli import main
from keras_seqattn.training.callbacks import Checkpoints

# What makes a run of the recipe dates small: seconds, three buckets, several batches in each of two epochs.
DATES = {
    "--epochs": "2",
    "--num-train": "330",
    "--num-validation": "40",
    "--num-test": "44",
    "--units": "12",
    "--embedding-dim": "6",
    "--dropout": "0.1",
    "--batch-tokens": "384",
    "--num-samples": "2",
    "--xla": "off",
}
TRANSLATE = {
    "--epochs": "1",
    "--units": "10",
    "--embedding-dim": "6",
    "--vocabulary-size": "300",
    "--bucket-boundaries": "12",
    "--num-samples": "1",
    "--beam-width": "2",
    "--xla": "off",
}
LANGUAGE_MODEL = {
    "--epochs": "2",
    "--units": "11",
    "--embedding-dim": "5",
    "--num-layers": "2",
    "--dropout": "0.1",
    "--batch-size": "7",
    "--window": "13",
    "--written-length": "17",
    "--xla": "off",
}


def train_dates(run: Path, **changes: str) -> list[str]:
    """The arguments of `seqattn` for the tiny run; `epochs="3"` changes a setting, `resume=""` adds a switch."""
    return ["train", "dates", "--run-dir", str(run), *options({**DATES, **flags(changes)})]


def train_translate(run: Path, data: Path, **changes: str) -> list[str]:
    """Likewise for the recipe translate."""
    return ["train", "translate", "--run-dir", str(run), "--data", str(data), *options({**TRANSLATE, **flags(changes)})]


def train_language_model(run: Path, data: Path, **changes: str) -> list[str]:
    """Likewise for the recipe language_model."""
    settings = options({**LANGUAGE_MODEL, **flags(changes)})
    return ["train", "language_model", "--run-dir", str(run), "--data", str(data), *settings]


def flags(changes: dict[str, str]) -> dict[str, str]:
    return {"--" + name.replace("_", "-"): value for name, value in changes.items()}


def options(values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in (name, *value.split())]


def check_resumed_equals_unbroken(arguments: list[str], run: Path, unbroken: Path, monkeypatch: Any) -> None:
    """Trains, is stopped after the first epoch, goes on, and compares figures, weights and optimizer bit for bit."""
    save = Checkpoints.on_epoch_end

    def stopped(self: Checkpoints, epoch: int, logs: Any = None) -> None:
        save(self, epoch, logs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "on_epoch_end", stopped)
    assert main(arguments) == 130
    monkeypatch.undo()
    assert main([*arguments, "--resume"]) == 0
    found, expected = (json.loads((folder / "metrics.json").read_text("utf-8")) for folder in (run, unbroken))
    assert found["resumed_after_epochs"] == 1
    same = set(expected) - {"train_seconds"}
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}
    one, other = (keras.saving.load_model(folder / "model.keras") for folder in (run, unbroken))
    for a, b in zip(
        [*one.weights, *one.optimizer.variables], [*other.weights, *other.optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


@functools.cache
def dates_run(base: Path) -> Path:
    """The folder of a finished tiny run of the recipe dates, below `base`."""
    assert main(train_dates(base / "dates_run")) == 0
    return base / "dates_run"


@functools.cache
def translate_run(base: Path) -> Path:
    """The folder of a finished tiny run of the recipe translate, below `base`; its data are beside it."""
    data = write_pairs(base / "translate_data.tsv")
    assert main(train_translate(base / "translate_run", data)) == 0
    return base / "translate_run"


@functools.cache
def language_model_run(base: Path) -> Path:
    """The folder of a finished tiny run of the recipe language_model, below `base`; its text is beside it."""
    data = write_text(base / "language_model_text.txt")
    assert main(train_language_model(base / "language_model_run", data)) == 0
    return base / "language_model_run"


def write_text(path: Path) -> Path:
    """Lines of words, about 6,000 characters."""
    rng = random.Random(0)
    words = ["the", "wind", "said", "no", "more", "and", "gone", "king", "$5", "über"]
    lines = (" ".join(rng.choice(words) for _ in range(rng.randint(3, 9))) + ".\n" for _ in range(210))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write_pairs(path: Path) -> Path:
    """A TSV of sentences and their words in capitals, backwards."""
    rng = random.Random(0)
    words = ["red", "green", "house", "river", "stone", "wind", "bird", "small", "old", "long"]
    sentences = sorted({" ".join(rng.choice(words) for _ in range(rng.randint(2, 4))) for _ in range(400)})
    lines = (f"{text}\t{' '.join(reversed(text.upper().split()))}\n" for text in sentences)
    path.write_text("".join(lines), encoding="utf-8")
    return path
