"""How far the gates of a recurrent layer stand open, as pictures in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_seqattn.inspection import gates_figure
from keras_seqattn.training.callbacks.summaries import SummaryCallback, write_picture


class Gates(SummaryCallback):
    """Draws the gates over one sentence after each epoch, its tokens on the axis (TensorBoard's tab Images).

    Args:
        trace: called after each epoch; gives the trace of the sentence, as `Recurrent(return_trace=True)` does: a dict
            of arrays (1, T, U).
        tokens: T strings, the sentence.
        log_dir: TensorBoard's folder.
    """

    def __init__(self, trace: Callable[[], Mapping[str, Any]], tokens: Sequence[str], log_dir: Path) -> None:
        super().__init__(log_dir)
        self.trace = trace
        self.tokens = list(tokens)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figure = gates_figure(self.trace(), self.tokens)
        with self.summaries(step=epoch + 1):
            write_picture("gates", figure)
