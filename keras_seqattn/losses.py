"""Losses over sequences."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_seqattn")
class SequenceCrossentropy(keras.losses.Loss):
    """Cross-entropy of each step's logits against integer targets, averaged over the steps that count.

        loss_t = logsumexp(logits_t) - (1 - label_smoothing) * logits_t[y_t] - label_smoothing * mean(logits_t)
        loss   = sum of weight_t * loss_t / sum of weight_t

    Args:
        label_smoothing: float in [0, 1), share of the target that is spread evenly over the vocabulary.
        reduction: "mean_with_sample_weight" for the mean over tokens, or another of Keras's names.
    Call arguments:
        y_true: (B, T) int.
        y_pred: (B, T, C) float logits.
        sample_weight: (B, T) float or bool, 0 where a step does not count.
    Raises: ValueError when `label_smoothing` is outside [0, 1).
    References: Szegedy et al. 2016, arXiv 1512.00567, sec. 7 (label smoothing).
    Example:
        >>> loss = SequenceCrossentropy()(ops.array([[1, 0]]), ops.zeros((1, 2, 4)), sample_weight=ops.array([[1, 0]]))
        >>> round(float(loss), 4)  # log(4), from the first step alone
        1.3863
    """

    def __init__(
        self, label_smoothing=0.0, reduction="mean_with_sample_weight", name="sequence_crossentropy", **kwargs
    ):
        super().__init__(name=name, reduction=reduction, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is a share in [0, 1). Received: {label_smoothing=}.")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        logits, y_true = ops.cast(y_pred, "float32"), ops.cast(y_true, "int32")
        loss = ops.sparse_categorical_crossentropy(y_true, logits, from_logits=True)  # (B, T)
        if self.label_smoothing:
            target = ops.take_along_axis(logits, y_true[..., None], axis=-1)[..., 0]
            loss = loss + self.label_smoothing * (target - ops.mean(logits, axis=-1))
        return loss

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
