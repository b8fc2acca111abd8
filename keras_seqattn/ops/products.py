"""Products of a step with what is the same at every step: the ones whose gradients need not be summed in the loop."""

import contextlib
import threading

from keras import ops, tree

_NOW = threading.local()


def product(x, kernel, bias=None):
    """x @ kernel + bias, for a kernel and a bias that are the same at every step of a `scan`.

    In the loops of a training step on TensorFlow, their gradients are

        sum over t of x_t^T @ gradient_t = [x_0; x_1; ...]^T @ [gradient_0; gradient_1; ...]

    one product when the loop is over, where a gradient taken step by step would read and write the whole kernel's
    gradient at each of them. What kernel and bias are made of, such as a slice or a cast, is computed once a loop.

    Args:
        x: (..., D) float, or (B, M, D) with a kernel for each row.
        kernel: (D, U) float, or (B, D, U), not computed from inputs or states of the step.
        bias: (U,) float, likewise, or None.
    Returns: (..., U) float, or (B, M, U).
    """
    kernel = ops.convert_to_tensor(kernel)
    if len(kernel.shape) == 2 and len(x.shape) > 2:
        # One product of all rows: TensorFlow multiplies (B, T, D) by (D, U) row by row. The bias is one more of its
        # rows, as adding it to all steps would be a pass over the whole result.
        rows = ops.reshape(x, (-1, x.shape[-1]))
        if bias is not None:
            rows = ops.concatenate([rows, ops.ones_like(rows[:, :1])], axis=-1)
            kernel = ops.concatenate([kernel, ops.convert_to_tensor(bias)[None]], axis=0)
        return ops.reshape(product(rows, kernel), (*ops.shape(x)[:-1], kernel.shape[-1]))
    return getattr(_NOW, "way", plain_product)(x, kernel, None if bias is None else ops.convert_to_tensor(bias))


def plain_product(x, kernel, bias=None):
    """x @ kernel + bias, whatever the loop."""
    result = ops.matmul(x, kernel)
    return result if bias is None else result + bias


@contextlib.contextmanager
def products_by(way):
    """Within, `product(x, kernel, bias)` is `way(x, kernel, bias)`; x is (B, D), or (B, M, D) with a kernel a row."""
    before = getattr(_NOW, "way", plain_product)
    _NOW.way = way
    try:
        yield
    finally:
        _NOW.way = before


def factors_of(step, states, inputs):
    """The factors [kernel] or [kernel, bias] of a step's products, in the order of use: computed here, once a loop."""
    factors = []

    def collect(x, *given):
        factors.append([one for one in given if one is not None])
        return plain_product(x, *given)

    with products_by(collect):
        step(states, tree.map_structure(lambda x: x[0], inputs))  # nobody asks for the results
    return factors


def products_with(factors):
    """Within, each product takes its factors from a list by `factors_of`, whatever it is given."""
    left = iter(factors)
    return products_by(lambda x, *given: plain_product(x, *next(left)))
