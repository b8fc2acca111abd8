"""Gradients of a layer by each backend, compared with finite differences of the NumPy reference in float64."""

import keras
import numpy as np
from keras import ops

from tests.layers.paper_weights import numpy


def gradients(loss, values):
    """Gradients of `loss(tensors) -> scalar` with respect to each of a list of arrays."""
    backend = keras.backend.backend()
    tensors = [ops.convert_to_tensor(value) for value in values]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = loss(tensors)
        return [numpy(gradient) for gradient in tape.gradient(result, tensors)]
    if backend == "jax":
        import jax

        return [numpy(gradient) for gradient in jax.grad(loss)(tensors)]
    import torch

    leaves = [tensor.detach().clone().requires_grad_(True) for tensor in tensors]
    return [numpy(gradient) for gradient in torch.autograd.grad(loss(leaves), leaves)]


def layer_gradients(layer, inputs, loss, **constants):
    """Gradients of `loss(layer outputs)` by the name of each float input and each trainable weight.

    `inputs` maps call arguments to float arrays, or lists of them; `constants` are passed on as they are.
    """
    weights = [numpy(weight) for weight in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]
    flat = keras.tree.flatten(inputs)

    def run(values):
        arguments = keras.tree.pack_sequence_as(inputs, values[: len(flat)])
        outputs, _ = layer.stateless_call(values[len(flat) :], others, **arguments, **constants)
        return loss(outputs)

    found = gradients(run, flat + weights)
    names = [weight.name for weight in layer.trainable_variables]
    return keras.tree.pack_sequence_as(inputs, found[: len(flat)]), dict(zip(names, found[len(flat) :], strict=True))


def assert_slopes_equal(loss, values, found, rng, directions=3, rtol=1e-3, atol=1e-4):
    """The slope of `loss(values)` along random directions equals the one that the gradients tell.

    Args:
        loss: of a dict of float64 arrays (or lists of them), by the reference.
        values: that dict. found: the gradients, in the same structure.
    """
    for name, value in values.items():
        for _ in range(directions):
            direction = keras.tree.map_structure(lambda x: rng.normal(size=x.shape), value)

            forth, back = (
                keras.tree.map_structure(lambda x, d, step=step: x + step * d, value, direction)
                for step in (1e-5, -1e-5)
            )
            slope = (loss({**values, name: forth}) - loss({**values, name: back})) / 2e-5
            pairs = zip(keras.tree.flatten(found[name]), keras.tree.flatten(direction), strict=True)
            told = sum(np.sum(gradient.astype("float64") * d) for gradient, d in pairs)
            np.testing.assert_allclose(told, slope, rtol=rtol, atol=atol, err_msg=f"gradient of {name}")
