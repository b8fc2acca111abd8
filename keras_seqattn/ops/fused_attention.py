"""Attention by the kernels of PyTorch and JAX."""

import keras
from keras import ops

from keras_seqattn.ops.plain_attention import along_diagonals, in_reach, with_four_axes


def fused_attention(query, key, value, mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0,
                    scale=None, dropout=0.0, seed=None):  # fmt: skip
    """`attention` by `torch.nn.functional.scaled_dot_product_attention` or `jax.nn.dot_product_attention`.

    What the kernels have no argument for becomes one mask or bias of all pairs, (T, S) at least.
    """
    if dropout:
        raise ValueError(
            "The fused kernels take no seed, so dropout needs another `implementation`: auto, plain or blockwise. "
            f"Received: {dropout=}."
        )
    triangle = causal and window is None and isinstance(offset, int) and offset == 0
    num_queries, num_keys = query.shape[1], key.shape[1]
    mask = None if mask is None else ops.cast(with_four_axes(mask), "bool")
    if (causal or window is not None) and not (triangle and mask is None and bias is None and distance_bias is None):
        triangle = False
        steps = ops.arange(num_queries, dtype="int32")[:, None] + offset
        reach = in_reach(ops.arange(num_keys, dtype="int32") - steps, causal, window)
        mask = reach[None, None] if mask is None else ops.logical_and(mask, reach)
    bias = None if bias is None else with_four_axes(bias)
    if distance_bias is not None:
        by_pair = along_diagonals(distance_bias, num_queries, num_keys)[None]  # (1, H, T, S)
        bias = by_pair if bias is None else bias + by_pair
    readable = None
    if mask is not None:
        # The kernels divide by zero where a row reads nothing: it reads all instead, and is set to zero afterwards.
        readable = ops.any(mask, axis=-1, keepdims=True)  # (B or 1, H or 1, T or 1, 1)
        mask = ops.logical_or(mask, ops.logical_not(readable))
    kernel = _torch if keras.backend.backend() == "torch" else _jax
    context = kernel(query, key, value, mask, bias, triangle, scale)  # (B, T, H, V)
    if readable is None:
        return context
    return ops.where(ops.transpose(readable, (0, 2, 1, 3)), context, ops.zeros_like(context))


def covers(mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0, dropout=0.0):
    """Whether PyTorch's kernel has arguments for all of this, so that memory stays linear in the length."""
    if bias is not None or distance_bias is not None or window is not None or dropout:
        return False
    if causal:
        return mask is None and isinstance(offset, int) and offset == 0
    return mask is None or with_four_axes(mask).shape[1:3] == (1, 1)


def _torch(query, key, value, mask, bias, triangle, scale):
    import torch

    if bias is not None:
        mask = bias.to(query.dtype) if mask is None else torch.where(mask, bias.to(query.dtype), -torch.inf)
    context = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (query, key, value)),
        attn_mask=mask,
        is_causal=triangle,
        scale=scale,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return context.transpose(1, 2)


def _jax(query, key, value, mask, bias, triangle, scale):
    import jax

    shape = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
    if bias is not None:
        bias = jax.numpy.broadcast_to(bias, shape)
    if mask is not None:
        mask = jax.numpy.broadcast_to(mask, shape)
    # The kernel wants keys and values of one width: zeros change no product.
    width, value_width = query.shape[3], value.shape[3]
    query, key, value = (
        jax.numpy.pad(x, ((0, 0), (0, 0), (0, 0), (0, max(width, value_width) - x.shape[3])))
        for x in (query, key, value)
    )
    scale = width**-0.5 if scale is None else scale
    context = jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=scale, is_causal=triangle)
    return context[..., :value_width]
