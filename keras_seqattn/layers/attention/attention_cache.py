"""Keys and values that a decoder has computed already."""

from typing import Any, NamedTuple

import keras
from keras import ops


class AttentionCache(NamedTuple):
    """Keys and values of the steps so far, in slots by time: what `MultiHeadAttention` need not compute again.

    A plain structure of tensors, batch first: `keras.tree` maps over it, loops carry it, a beam reorders its rows.
    `MultiHeadAttention.get_initial_cache` makes an empty one, `make_cross_cache` that of a source sequence.

    Fields:
        key: (B, L, N, K) float. value: (B, L, N, V) float.
        mask: (B, L) bool, True where a slot may be read: False in those not yet written, and in padding.
    Example:
        >>> cache = AttentionCache(ops.zeros((2, 5, 1, 3)), ops.zeros((2, 5, 1, 3)), ops.zeros((2, 5), "bool"))
        >>> tuple(keras.tree.map_structure(lambda x: x[:1], cache).key.shape)
        (1, 5, 1, 3)
    """

    key: Any
    value: Any
    mask: Any


def written(cache, steps, index, ring=False):
    """The cache with new steps in it.

    Args:
        cache: AttentionCache of L slots.
        steps: AttentionCache of T new steps, (B, T, ...) each.
        index: int or scalar int32 tensor, the time of the first new step.
        ring: bool, whether time t has slot t mod L, so that the newest L steps stay; else it has slot t, and T may
            not reach past L.
    Raises: ValueError when it is known that the slots are too few.
    """
    slots, length = cache.key.shape[1], steps.key.shape[1]
    if not ring and slots is not None and length is not None:
        last = length + (index if isinstance(index, int) else 0)
        if last > slots:
            raise ValueError(
                "The cache has a slot for each step, so its length must not be below the number of steps. "
                f"Received: a cache of {slots} slots, and steps up to {last} (cache_index={index})."
            )
    steps = AttentionCache(*(ops.cast(new, old.dtype) for old, new in zip(cache, steps, strict=True)))
    index = ops.cast(index, "int32")
    in_a_row = not ring or steps.key.shape[1] == 1
    if in_a_row and keras.backend.backend() != "torch" and not compiled_by_xla():
        first = ops.mod(index, ops.shape(cache.key)[1]) if ring else index
        return AttentionCache(*(from_slot(old, new, first) for old, new in zip(cache, steps, strict=True)))
    batch, length = ops.shape(steps.key)[:2]
    times = index + ops.arange(length, dtype="int32")  # (T,)
    if ring:
        slots = ops.shape(cache.key)[1]
        if steps.key.shape[1] != 1:  # of several steps with one slot, the last stays
            steps, times = AttentionCache(*(x[:, -slots:] for x in steps)), times[-slots:]
        times = ops.mod(times, slots)
    shape = ops.shape(steps.key)[:2]
    rows = ops.broadcast_to(ops.arange(batch, dtype="int32")[:, None], shape)
    places = ops.stack([rows, ops.broadcast_to(times, shape)], axis=-1)  # (B, T, 2)
    return AttentionCache(*(at_places(old, new, places) for old, new in zip(cache, steps, strict=True)))


def from_slot(old, new, first):
    """(B, L, ...) with (B, T, ...) written from slot `first` on: in place within a loop, where nobody else holds it."""
    if keras.backend.backend() == "jax":
        return ops.slice_update(old, (0, first) + (0,) * (len(old.shape) - 2), new)
    import tensorflow as tf

    # A stock operation, as an export needs it; what Keras makes of `slice_update` is one of XLA.
    begin, end = [0, first], [ops.shape(new)[0], first + ops.shape(new)[1]]
    return tf.raw_ops.TensorStridedSliceUpdate(input=old, begin=begin, end=end, strides=[1, 1], value=new)


def at_places(old, new, places):
    """(B, L, ...) with (B, T, ...) written to row and slot `places` (B, T, 2): a copy, except under XLA."""
    return ops.scatter_update(old, ops.reshape(places, (-1, 2)), ops.reshape(new, (-1, *new.shape[2:])))


def released(cache, results):
    """The cache as it is once these results have been computed from it.

    TensorFlow writes in place what nobody else holds, and would else copy the cache at each step of a loop, as
    the attention of one step may still read what the next one writes to.
    """
    if keras.backend.backend() != "tensorflow":
        return cache
    import tensorflow as tf

    with tf.control_dependencies(results):
        return keras.tree.map_structure(tf.identity, cache)


def compiled_by_xla():
    """Whether TensorFlow is tracing for XLA, which writes to slots that are known beforehand or are scattered to."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # TensorFlow tells it nowhere else

    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def times_of_slots(slots, now):
    """The newest time before `now` that slot j of a ring has: (L,) int32, negative where it had none yet."""
    newest = now - 1
    return newest - ops.mod(newest - ops.arange(slots, dtype="int32"), slots)
