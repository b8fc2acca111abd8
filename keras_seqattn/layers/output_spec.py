"""What a layer's outputs will be like, known before they are computed."""

import keras
from keras import ops


def in_compute_dtype(layer, spec):
    """Symbolic outputs of `layer`, the floats in its compute dtype: on PyTorch, Keras traces weights in their own."""

    def retype(output):
        if not keras.backend.is_float_dtype(output.dtype):
            return output
        return keras.KerasTensor(output.shape, dtype=layer.compute_dtype)

    return keras.tree.map_structure(retype, spec)


def cast_floats(layer, outputs):
    """A structure of tensors, the floats in the compute dtype of `layer`: what it computes in another stays inside."""

    def cast(x):
        return ops.cast(x, layer.compute_dtype) if keras.backend.is_float_dtype(x.dtype) else x

    return keras.tree.map_structure(cast, outputs)
