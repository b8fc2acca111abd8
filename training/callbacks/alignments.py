"""What each word of an answer read of the source, as pictures in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_seqattn.inspection import alignment_figure
from keras_seqattn.text import TextToText
from keras_seqattn.training.callbacks.summaries import SummaryCallback, write_picture


class Alignments(SummaryCallback):
    """Draws the alignments of a few texts after each epoch, the tokens on the axes (TensorBoard's tab Images).

    Args:
        answering: `TextToText` around the model in training.
        texts: the texts.
        log_dir: TensorBoard's folder.
    """

    def __init__(self, answering: TextToText, texts: Sequence[str], log_dir: Path) -> None:
        super().__init__(log_dir)
        self.answering = answering
        self.texts = list(texts)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figures = draw(self.answering, self.texts)
        with self.summaries(step=epoch + 1):
            for index, figure in enumerate(figures):
                write_picture(f"alignment/{index}", figure)


def draw(answering: TextToText, texts: Sequence[str]) -> list[Any]:
    """A figure for each text: its tokens, its answer's, and what read what."""
    found = {name: value.numpy() for name, value in answering(list(texts)).items()}
    figures = []
    for row, text in enumerate(texts):
        source, answer = (
            [token.decode("utf-8", "replace") for token in found[name][row]]
            for name in ("source_tokens", "answer_tokens")
        )
        # A line each: beside a text that runs from right to left, the answer would be drawn backwards.
        title = f"{text}\n→ {found['answer'][row].decode('utf-8', 'replace')}"
        figures.append(alignment_figure(source, answer, found["attention"][row], title))
    return figures
