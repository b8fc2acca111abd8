"""A linear recurrence, all steps at once; `linear_recurrence_in_turn` is the plain form that it equals."""

from keras import ops

from keras_seqattn.ops.recurrence import scan

MOST_DOUBLINGS = 20  # where the number of steps is known only when a graph runs: enough for a million


def linear_recurrence(factors, terms):
    """Solves x_s = factors_s * x_{s-1} + terms_s over the last axis, with x before the first step zero.

    By doubling: what the 2^n steps up to s make of the x before them is put together of two halves,

        x_s       = factors_s * x_{s-d} + terms_s        for d = 1, 2, 4, ...
        terms_s   = terms_s + factors_s * terms_{s-d}
        factors_s = factors_s * factors_{s-d}

    in log2(S) rounds. The closed form by cumulative sums and products divides by a product of factors, and fails where
    that is zero or nearly; this divides by nothing.

    Args:
        factors, terms: (..., S) float, of one shape and dtype.
    Returns: x, (..., S) float.
    Example:
        >>> [float(x) for x in linear_recurrence(ops.array([0.5, 0.5, 0.0]), ops.array([8.0, 0.0, 1.0]))]
        [8.0, 4.0, 1.0]
    """
    length = terms.shape[-1]
    is_open = length is None  # on TensorFlow
    if not is_open and not isinstance(length, int):  # JAX has a symbol for a length that is not known
        return linear_recurrence_in_turn(factors, terms)
    doublings = MOST_DOUBLINGS if is_open else max(length - 1, 0).bit_length()
    length = ops.shape(terms)[-1] if is_open else length
    for n in range(doublings):
        distance = ops.minimum(2**n, length) if is_open else 2**n
        terms = terms + factors * _later(terms, distance, length, 0)
        if n < doublings - 1:
            factors = factors * _later(factors, distance, length, 1)
    return terms


def _later(x, distance, length, before):
    """`x` moved `distance` steps towards the end, with `before` where it began."""
    beginning = ops.full_like(x[..., :distance], before)
    return ops.concatenate([beginning, x[..., : length - distance]], axis=-1)


def linear_recurrence_in_turn(factors, terms):
    """`linear_recurrence` one step after the other: the reference for it."""

    def step(x, now):
        x = now["factors"] * x + now["terms"]
        return x, x

    steps = {"factors": ops.moveaxis(factors, -1, 0), "terms": ops.moveaxis(terms, -1, 0)}
    length = terms.shape[-1] if terms.shape[-1] is not None else ops.shape(terms)[-1]
    _, xs = scan(step, ops.zeros_like(terms[..., 0]), steps, length)
    return ops.moveaxis(xs, 0, -1)
