"""Buffers of static shape that a decoding loop fills step by step."""

from keras import ops

from keras_seqattn.ops.arguments import is_count


def write(buffer, time, value, axis):
    """`buffer` with `value` at index `time` of `axis`; pure `where`, so it compiles and exports everywhere.

    Past the end nothing is written.

    Args:
        buffer: tensor with T entries along `axis`; None stays None.
        value: the same without `axis`.
    """
    if buffer is None:
        return None
    shape = [1] * len(buffer.shape)
    shape[axis] = -1
    now = ops.reshape(ops.equal(ops.arange(ops.shape(buffer)[axis]), time), shape)
    return ops.where(now, ops.expand_dims(ops.cast(value, buffer.dtype), axis), buffer)


def start_buffer(first, length, axis):
    """A buffer of zeros for `length` values like `first`, which stands at index 0 of `axis`; None stays None."""
    if first is None:
        return None
    return write(empty_buffer(first, length, axis), 0, first, axis)


def empty_buffer(like, length, axis):
    """A buffer of zeros for `length` values like this one, along a new `axis`."""
    shape = list(ops.shape(like))
    shape.insert(axis, length)
    return ops.zeros(shape, dtype=like.dtype)


def is_number(number):
    """Whether `number` is a finite int or float; True is not one."""
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < float("inf")


def check_max_length(max_length):
    """Raises ValueError unless `max_length` is an integer of at least 1."""
    if not is_count(max_length):
        raise ValueError(
            "`max_length` is the number of steps that the answer may take, end token included: an integer of at "
            f"least 1. Received: {max_length=}."
        )
