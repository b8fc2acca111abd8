"""Positions told by learned vectors."""

import keras
from keras import ops

from keras_seqattn.ops.arguments import check_count


@keras.saving.register_keras_serializable(package="keras_seqattn")
class LearnedPositions(keras.layers.Layer):
    """Adds to each step a learned vector for its position.

        y[t] = x[t] + embeddings[t]

    Args:
        max_length: int, positions that there are vectors for, at least 1.
        embeddings_initializer: for the vectors.
    Call arguments:
        inputs: (B, T, D) float.
        positions: (T,) or (B, T) int below `max_length`, where each step stands; None counts from 0.
    Returns: (B, T, D) float.
    Raises: ValueError when `max_length` is below 1, or T is above it.
    References: Gehring et al. 2017, arXiv 1705.03122, sec. 3.1; Devlin et al. 2019, arXiv 1810.04805.
    Example:
        >>> tuple(LearnedPositions(max_length=5)(ops.zeros((2, 3, 7))).shape)
        (2, 3, 7)
    """

    def __init__(self, max_length, embeddings_initializer="uniform", **kwargs):
        super().__init__(**kwargs)
        check_count(max_length, "max_length")
        self.max_length = max_length
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.supports_masking = True

    def build(self, inputs_shape, positions_shape=None):
        shape = (self.max_length, inputs_shape[-1])
        self.embeddings = self.add_weight(shape=shape, initializer=self.embeddings_initializer, name="embeddings")

    def call(self, inputs, positions=None):
        length = inputs.shape[1]
        if length is not None and length > self.max_length:
            raise ValueError(
                f"There are learned positions for `max_length` steps, and no more. Received: {length} steps, "
                f"max_length={self.max_length}."
            )
        embeddings = ops.cast(self.embeddings, inputs.dtype)
        if positions is None:
            return inputs + embeddings[: ops.shape(inputs)[1]]
        return inputs + ops.take(embeddings, positions, axis=0)

    def compute_output_shape(self, inputs_shape, positions_shape=None):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
