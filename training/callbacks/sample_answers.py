"""What the model answers to a few texts, after each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from keras_seqattn.text import TextToText
from keras_seqattn.training.callbacks.summaries import SummaryCallback
from keras_seqattn.training.data.splits import Pair


class SampleAnswers(SummaryCallback):
    """Writes the answers to a few texts to TensorBoard (tab Text), and the first of them to the console.

    Args:
        answering: `TextToText` around the model in training.
        pairs: texts and the right answers.
        log_dir: TensorBoard's folder.
        console: where to write; None writes to TensorBoard alone.
    """

    def __init__(
        self, answering: TextToText, pairs: Sequence[Pair], log_dir: Path, console: Console | None = None
    ) -> None:
        super().__init__(log_dir)
        self.answering = answering
        self.pairs = list(pairs)
        self.console = console

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        import tensorflow as tf

        answers = [
            text.decode("utf-8", "replace") for text in self.answering([s for s, _ in self.pairs])["answer"].numpy()
        ]
        rows = ["| text | answer | right |", "|---|---|---|"]
        for (source, target), answer in zip(self.pairs, answers, strict=True):
            rows.append(f"| {in_cell(source)} | {in_cell(answer)} | {in_cell(target)} |")
        with self.summaries(step=epoch + 1):
            tf.summary.text("answers", "\n".join(rows))
        if self.console is not None and self.pairs:
            self.console.print(f"  {self.pairs[0][0]}  →  {answers[0]}", highlight=False, markup=False)


def in_cell(text: str) -> str:
    """`text` as one cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")
