"""One loop over time for all backends: `scan`, with `scan_unrolled` as the plain form that it equals."""

import contextlib

import keras
from keras import ops, tree

from keras_seqattn.ops.products import factors_of, plain_product, products_by, products_with


def scan(step, states, inputs, length, training=False):
    """Runs `step` over the first axis of `inputs`, carrying `states`.

        states, outputs[t] = step(states, inputs[t])        for t = 0 .. length - 1

    A `tf.while_loop` on TensorFlow (static shapes compile under XLA), `jax.lax.scan` on JAX, a Python loop on PyTorch.

    Args:
        step: (states, inputs at t) -> (states, outputs at t); outputs may be an empty structure.
        states: structure of tensors, whose shapes and dtypes stay the same from step to step.
        inputs: structure of tensors (T, ...).
        length: int or scalar tensor, T.
        training: bool, whether gradients will be asked for. Then a TensorFlow graph keeps what they need, and the
            kernels of `product` get theirs by one product after the loop rather than by a sum in it.
    Returns: last states; structure of outputs, each (T, ...).
    """
    with products_by(plain_product):  # those of this loop, not of one around it
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if training and not tf.executing_eagerly():
                from keras_seqattn.ops.loop_gradient import scan_with_gradient

                return scan_with_gradient(step, states, inputs, length)
            return _scan_tensorflow(step, states, inputs, length)
        if keras.backend.backend() == "jax":
            import jax

            return jax.lax.scan(step, states, inputs)
        return scan_unrolled(step, states, inputs, length)


def scan_unrolled(step, states, inputs, length):
    """`scan` as a Python loop over a static length: the reference for the others."""
    collected = []
    for t in range(length):
        states, outputs = step(states, tree.map_structure(lambda x, t=t: x[t], inputs))
        collected.append(outputs)
    return states, tree.map_structure(lambda *steps: ops.stack(steps, axis=0), *collected)


def _scan_tensorflow(step, states, inputs, length):
    import tensorflow as tf

    def unstack(x):
        return tf.TensorArray(x.dtype, size=length, element_shape=x.shape[1:]).unstack(x)

    arrays = tree.map_structure(unstack, inputs)

    def read(t):
        return tree.map_structure(lambda array: array.read(t), arrays)

    # A scratch graph, never run, tells which outputs a step gives: TensorArrays need their dtypes before the loop.
    with tf.__internal__.FuncGraph("one_step").as_default():
        _, spec = step(states, tree.map_structure(lambda x: x[0], inputs))
        spec = tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), spec)
    outputs = tree.map_structure(lambda s: tf.TensorArray(s.dtype, size=length, element_shape=s.shape), spec)
    factors = None if tf.executing_eagerly() else factors_of(step, states, inputs)

    def body(t, states, collected):
        with contextlib.nullcontext() if factors is None else products_with(factors):
            states, outputs = step(states, read(t))
        collected = tree.map_structure(lambda array, x: array.write(t, x), collected, outputs)
        return t + 1, states, collected

    _, states, outputs = tf.while_loop(
        lambda t, *_: t < length, body, (tf.constant(0), states, outputs), maximum_iterations=length
    )
    return states, tree.map_structure(lambda array: array.stack(), outputs)
