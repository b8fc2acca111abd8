"""A progress bar while an epoch runs, and a line when it is over."""

from __future__ import annotations

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SHOWN = ("loss", "val_loss")  # and each accuracy of the validation


class Progress(keras.callbacks.Callback):
    """Shows step, time left and loss while an epoch runs; afterwards one line of figures stays.

    Args:
        steps: int, steps an epoch.
        console: where to write; standard output when None. Where that is no terminal, only the lines are written.
    """

    def __init__(self, steps: int, console: Console | None = None) -> None:
        super().__init__()
        self.steps = steps
        self.console = console or Console()
        self.bar: Bar | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.began = time.monotonic()
        if not self.console.is_terminal:
            return
        self.bar = Bar(
            TextColumn(f"epoch {epoch + 1}/{self.params['epochs']}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=self.console,
            transient=True,
        )
        self.bar.start()
        self.task = self.bar.add_task("", total=self.steps, loss="compiling the step ..." if epoch == 0 else "")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.bar is not None and logs:
            self.bar.update(self.task, completed=batch + 1, loss=f"loss {float(logs['loss']):.4f}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._close()
        seconds = time.monotonic() - self.began
        logs = logs or {}
        accuracies = [name for name in logs if name.startswith("val_") and name.endswith("accuracy")]
        figures = "  ".join(f"{name} {float(logs[name]):.4f}" for name in (*SHOWN, *accuracies) if name in logs)
        self.console.print(f"epoch {epoch + 1}/{self.params['epochs']}  {seconds:.0f} s  {figures}", highlight=False)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
