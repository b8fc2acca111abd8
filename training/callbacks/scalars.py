"""Loss and figures as curves."""

from __future__ import annotations

from typing import Any

import keras


class Scalars(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback, with steps counted from the beginning of the training.

    Keras's own counts from the beginning of `fit`, so a resumed run would draw its curve over that of its first part.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._global_train_batch = int(self.model.optimizer.iterations)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        import tensorflow as tf

        # The condition that Keras keeps on the steps' summaries, true each `update_freq` steps, would hold for the
        # epochs' too: an epoch that ends at another step would have no figures.
        with tf.summary.record_if(True):
            super().on_epoch_end(epoch, logs)
