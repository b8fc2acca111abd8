"""Positions told by waves."""

import keras
from keras import ops

from keras_seqattn.ops.positions import sinusoids


@keras.saving.register_keras_serializable(package="keras_seqattn")
class SinusoidalPositions(keras.layers.Layer):
    """Adds to each step waves of its position, which needs no weights and knows no longest length.

        y[t, 2 i]     = x[t, 2 i]     + sin(t / max_wavelength ** (2 i / D))
        y[t, 2 i + 1] = x[t, 2 i + 1] + cos(t / max_wavelength ** (2 i / D))

    Args:
        max_wavelength: float, above 0; the longest wave has about 2 pi times that many steps.
    Call arguments:
        inputs: (B, T, D) float.
        positions: (T,) or (B, T) int, where each step stands; None counts from 0.
    Returns: (B, T, D) float.
    Raises: ValueError when `max_wavelength` is not above 0.
    Reference: Vaswani et al. 2017, arXiv 1706.03762, sec. 3.5.
    Example:
        >>> [round(float(x), 3) for x in SinusoidalPositions()(ops.zeros((1, 2, 4)))[0, 1]]
        [0.841, 0.54, 0.01, 1.0]
    """

    def __init__(self, max_wavelength=10000.0, **kwargs):
        super().__init__(**kwargs)
        if not max_wavelength > 0:
            raise ValueError(f"`max_wavelength` must be above 0. Received: {max_wavelength=}.")
        self.max_wavelength = max_wavelength
        self.supports_masking = True

    def call(self, inputs, positions=None):
        if positions is None:
            positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        return inputs + ops.cast(sinusoids(positions, inputs.shape[-1], self.max_wavelength), inputs.dtype)

    def compute_output_shape(self, inputs_shape, positions_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
