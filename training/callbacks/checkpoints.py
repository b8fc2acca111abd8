"""The newest states of a training: it can go on from the last, and the model may become the mean of several."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras

from keras_seqattn.training.run_folder import RunFolder

NAME = re.compile(r"epoch-(\d+)\.keras")


class Checkpoints(keras.callbacks.Callback):
    """Saves model and optimizer after each epoch; older ones are removed when the new one is complete.

    Args:
        run: the `RunFolder` in whose `checkpoints` they are kept.
        keep: how many, the newest ones.
    """

    def __init__(self, run: RunFolder, keep: int = 1) -> None:
        super().__init__()
        self.run = run
        self.keep = keep

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        path = self.run.checkpoints / f"epoch-{epoch + 1:04d}.keras"
        self.run.save_model(self.model, path)
        for other, _ in saved(self.run)[: -self.keep]:
            other.unlink()


def saved(run: RunFolder) -> list[tuple[Path, int]]:
    """The checkpoints of a run with the number of epochs behind each, oldest first."""
    found = [(path, NAME.fullmatch(path.name)) for path in run.checkpoints.glob("epoch-*.keras")]
    return sorted(((path, int(match[1])) for path, match in found if match), key=lambda item: item[1])
