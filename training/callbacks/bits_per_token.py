"""The loss of a language model in the units that such models are compared in."""

from __future__ import annotations

import math
from typing import Any

from keras_seqattn.training.callbacks.summaries import SummaryCallback


class BitsPerToken(SummaryCallback):
    """Writes bits a token and perplexity to TensorBoard after each epoch, from a loss that is a mean cross-entropy.

        bits = loss / ln 2                perplexity = exp(loss) = 2 ** bits

    The figures of the training part are means over the epoch, with dropout; those of the validation part are not.

    Args:
        log_dir: TensorBoard's folder.
        token: str, what a token is called in the names of the figures.
    """

    def __init__(self, log_dir: Any, token: str = "token") -> None:
        super().__init__(log_dir)
        self.token = token

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        import tensorflow as tf

        with self.summaries(step=epoch + 1):
            for name, part in (("loss", "train"), ("val_loss", "validation")):
                if logs and name in logs:
                    loss = float(logs[name])
                    tf.summary.scalar(f"bits_per_{self.token}/{part}", bits(loss))
                    tf.summary.scalar(f"perplexity/{part}", math.exp(loss))


def bits(nats: float) -> float:
    """An information in bits that was measured by natural logarithms."""
    return nats / math.log(2)
