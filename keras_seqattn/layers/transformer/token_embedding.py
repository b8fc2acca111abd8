"""Ids to vectors, and vectors back to the logits of ids."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_seqattn")
class TokenEmbedding(keras.layers.ReversibleEmbedding):
    """One matrix for reading words and for writing them.

        y      = embeddings[ids] * sqrt(D)         with `scale`; without it, embeddings[ids]
        logits = x @ transpose(embeddings)         `reverse=True`

    Args:
        input_dim: int, number C of ids.
        output_dim: int, width D.
        scale: bool, whether what is read is multiplied by sqrt(D), as where positions of length about sqrt(D / 2) are
            added to it.
        **kwargs: as of `keras.layers.ReversibleEmbedding`, such as `tie_weights=False` and `embeddings_initializer`.
    Call arguments:
        inputs: ids (B, T) int; with `reverse`, (B, T, D) float.
        reverse: bool.
    Returns: (B, T, D) float; with `reverse`, (B, T, C).
    References: Press and Wolf 2017, arXiv 1608.05859; Vaswani et al. 2017, arXiv 1706.03762, sec. 3.4.
    Example:
        >>> embedding = TokenEmbedding(input_dim=19, output_dim=7)
        >>> tuple(embedding(embedding(ops.ones((2, 3), "int32")), reverse=True).shape)
        (2, 3, 19)
    """

    def __init__(self, input_dim, output_dim, scale=False, **kwargs):
        super().__init__(input_dim, output_dim, **kwargs)
        self.scale = scale
        self.supports_masking = True

    def call(self, inputs, reverse=False):
        if not reverse:
            vectors = super().call(inputs)
            return vectors * self.output_dim**0.5 if self.scale else vectors
        # One product of all rows: TensorFlow multiplies (B, T, D) by (D, C) row by row.
        kernel = self.output_kernel()
        logits = ops.matmul(ops.cast(ops.reshape(inputs, (-1, self.output_dim)), kernel.dtype), kernel)
        if self.logit_soft_cap is not None:
            logits = ops.tanh(logits / self.logit_soft_cap) * self.logit_soft_cap
        return ops.reshape(logits, (*ops.shape(inputs)[:-1], self.input_dim))

    def compute_output_spec(self, inputs, reverse=False):
        width, dtype = (self.input_dim, self.reverse_dtype) if reverse else (self.output_dim, None)
        shape = (*inputs.shape[:-1], width) if reverse else (*inputs.shape, width)
        return keras.KerasTensor(shape, dtype=dtype or self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        is_ids = not keras.backend.is_float_dtype(inputs.dtype)
        return ops.not_equal(inputs, 0) if self.mask_zero and is_ids else None

    def output_kernel(self):
        """What `reverse` multiplies with, (D, C): for loops over steps, which else would transpose it at each."""
        kernel = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        return ops.cast(kernel, self.reverse_dtype or self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
