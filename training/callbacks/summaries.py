"""Where callbacks write what TensorBoard shows."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras


class SummaryCallback(keras.callbacks.Callback):
    """Base of the callbacks that write text or pictures to TensorBoard.

    Args:
        log_dir: TensorBoard's folder.
    """

    def __init__(self, log_dir: Path) -> None:
        super().__init__()
        self.log_dir = log_dir
        self.writer: Any = None

    @contextlib.contextmanager
    def summaries(self, step: int) -> Iterator[None]:
        """In this block, `tf.summary` writes to `log_dir` at `step`."""
        import tensorflow as tf

        self.writer = self.writer or tf.summary.create_file_writer(str(self.log_dir))
        # Keras's TensorBoard callback keeps a condition on every summary, true only each `update_freq` steps.
        with self.writer.as_default(step=step), tf.summary.record_if(True):
            yield
        self.writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def write_picture(name: str, figure: Any) -> None:
    """Writes a matplotlib figure, within `summaries`."""
    import tensorflow as tf

    picture = tf.io.decode_png(as_png(figure), channels=3)  # (Y, X, 3)
    tf.summary.image(name, picture[None])


def as_png(figure: Any) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
