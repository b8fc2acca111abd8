"""Losses over sequences."""

import keras
from keras import ops
from keras.src.backend import get_keras_mask  # Keras shows it nowhere else; JAX keeps masks beside its tensors


@keras.saving.register_keras_serializable(package="keras_seqattn")
class SequenceCrossentropy(keras.losses.Loss):
    """Cross-entropy of each step's logits against integer targets, over the steps that count.

        loss_t = logsumexp(logits_t) - (1 - label_smoothing) * logits_t[y_t] - label_smoothing * mean(logits_t)
        loss   = sum of weight_t * loss_t / sum of weight_t                 average over tokens
        loss   = sum of weight_t * loss_t / sequences with any weight       summed over time, average over sequences

    The second is the negative log-likelihood of a sequence: a long one counts for more than a short one.

    Args:
        label_smoothing: float in [0, 1), share of the target that is spread evenly over the vocabulary.
        reduction: "mean_with_sample_weight" for the mean over tokens, "mean_over_sequences" for the sum over time
            averaged over sequences, or another of Keras's names.
    Call arguments:
        y_true: (B, T) int.
        y_pred: (B, T, C) float logits; a mask that they carry counts beside the weights.
        sample_weight: (B, T) float or bool, 0 where a step does not count; or (B,), one for each sequence.
    Raises: ValueError when `label_smoothing` is outside [0, 1), or `reduction` is unknown.
    References: Szegedy et al. 2016, arXiv 1512.00567, sec. 7 (label smoothing).
    Example:
        >>> loss = SequenceCrossentropy()(ops.array([[1, 0]]), ops.zeros((1, 2, 4)), sample_weight=ops.array([[1, 0]]))
        >>> round(float(loss), 4)  # log(4), from the first step alone
        1.3863
    """

    def __init__(
        self, label_smoothing=0.0, reduction="mean_with_sample_weight", name="sequence_crossentropy", **kwargs
    ):
        self.over_sequences = reduction == "mean_over_sequences"
        super().__init__(name=name, reduction="sum" if self.over_sequences else reduction, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is a share in [0, 1). Received: {label_smoothing=}.")
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None and len(sample_weight.shape) == 1:  # one for each sequence
            sample_weight = ops.repeat(sample_weight[:, None], ops.shape(y_pred)[1], axis=1)
        loss = super().__call__(y_true, y_pred, sample_weight)
        if not self.over_sequences:
            return loss
        weights = ops.ones(ops.shape(y_pred)[:2], dtype=loss.dtype)  # (B, T)
        for given in (sample_weight, get_keras_mask(y_pred)):
            weights = weights if given is None else weights * ops.cast(given, loss.dtype)
        sequences = ops.sum(ops.cast(ops.any(weights > 0, axis=1), loss.dtype))
        return loss / ops.maximum(sequences, 1)

    def call(self, y_true, y_pred):
        logits, y_true = ops.cast(y_pred, "float32"), ops.cast(y_true, "int32")
        loss = ops.sparse_categorical_crossentropy(y_true, logits, from_logits=True)  # (B, T)
        if self.label_smoothing:
            target = ops.take_along_axis(logits, y_true[..., None], axis=-1)[..., 0]
            loss = loss + self.label_smoothing * (target - ops.mean(logits, axis=-1))
        return loss

    def get_config(self):
        config = {**super().get_config(), "label_smoothing": self.label_smoothing}
        return {**config, "reduction": "mean_over_sequences"} if self.over_sequences else config
