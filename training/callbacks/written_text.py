"""What a language model writes by itself, after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from keras_seqattn.training.callbacks.summaries import SummaryCallback


class WrittenText(SummaryCallback):
    """Has a model write a text after each epoch, to TensorBoard (tab Text) and to the console.

    Args:
        write: called with the number of the epoch, from 0; gives the text.
        log_dir: TensorBoard's folder.
        console: where to write; None writes to TensorBoard alone.
    """

    def __init__(self, write: Callable[[int], str], log_dir: Path, console: Console | None = None) -> None:
        super().__init__(log_dir)
        self.write = write
        self.console = console

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        import tensorflow as tf

        text = self.write(epoch)
        lines = [f"    {line}" for line in text.split("\n")]
        with self.summaries(step=epoch + 1):
            tf.summary.text("written", "\n".join(lines))  # indented, Markdown shows it as it is
        if self.console is not None:
            self.console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
