"""One loop over time for all backends: `scan`, with `scan_unrolled` as the plain form that it equals."""

import keras
from keras import ops, tree


def scan(step, states, inputs, length):
    """Runs `step` over the first axis of `inputs`, carrying `states`.

        states, outputs[t] = step(states, inputs[t])        for t = 0 .. length - 1

    A `tf.while_loop` on TensorFlow (static shapes compile under XLA), `jax.lax.scan` on JAX, a Python loop on PyTorch.

    Args:
        step: (states, inputs at t) -> (states, outputs at t); outputs may be an empty structure.
        states: structure of tensors, whose shapes and dtypes stay the same from step to step.
        inputs: structure of tensors (T, ...).
        length: int or scalar tensor, T.
    Returns: last states; structure of outputs, each (T, ...).
    """
    if keras.backend.backend() == "tensorflow":
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

    def body(t, states, collected):
        states, outputs = step(states, read(t))
        collected = tree.map_structure(lambda array, x: array.write(t, x), collected, outputs)
        return t + 1, states, collected

    _, states, outputs = tf.while_loop(
        lambda t, *_: t < length, body, (tf.constant(0), states, outputs), maximum_iterations=length
    )
    return states, tree.map_structure(lambda array: array.stack(), outputs)
