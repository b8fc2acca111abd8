"""Buffers of static shape that a decoding loop fills step by step."""

from keras import ops


def write(buffer, time, value, axis):
    """`buffer` with `value` at index `time` of `axis`; pure `where`, so it compiles and exports everywhere.

    Args:
        buffer: tensor with T entries along `axis`; None stays None.
        value: the same without `axis`.
    """
    if buffer is None:
        return None
    shape = [1] * len(buffer.shape)
    shape[axis] = buffer.shape[axis]
    now = ops.reshape(ops.equal(ops.arange(buffer.shape[axis]), time), shape)
    return ops.where(now, ops.expand_dims(ops.cast(value, buffer.dtype), axis), buffer)


def start_buffer(first, length, axis):
    """A buffer of zeros for `length` values like `first`, which stands at index 0 of `axis`; None stays None."""
    if first is None:
        return None
    shape = list(ops.shape(first))
    shape.insert(axis, length)
    return write(ops.zeros(shape, dtype=first.dtype), 0, first, axis)


def is_count(number):
    """Whether `number` is an integer of at least 1; True is not one."""
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def check_max_length(max_length):
    """Raises ValueError unless `max_length` is an integer of at least 1."""
    if not is_count(max_length):
        raise ValueError(
            "`max_length` is the number of steps that the answer may take, end token included: an integer of at "
            f"least 1. Received: {max_length=}."
        )
