"""Where a step stands: rotations, slopes, buckets and waves."""

import math

import numpy as np
from keras import ops


def rotary(x, positions, max_wavelength=10000.0):
    """Turns each head by the place of its step, so that query . key depends on their distance alone.

    The width is cut in two halves, and feature i turns with feature i + K / 2 (as in GPT-NeoX and Llama; the paper
    pairs neighbours, which is the same up to the order of features):

        angle_i = position * max_wavelength ** (-2 i / K)
        first  half: x_i * cos(angle_i) - x_(i + K / 2) * sin(angle_i)
        second half: x_(i + K / 2) * cos(angle_i) + x_i * sin(angle_i)

    Args:
        x: (B, T, H, K) float, K even.
        positions: (T,) or (B, T) int.
        max_wavelength: float, how slowly the last pair turns.
    Returns: as `x`.
    Raises: ValueError when K is odd.
    Reference: Su et al. 2021, arXiv 2104.09864, sec. 3.4.2.
    Example:
        >>> tuple(rotary(ops.ones((2, 3, 4, 6)), ops.arange(3)).shape)
        (2, 3, 4, 6)
    """
    width = x.shape[-1]
    check_rotary_width(width)
    frequencies = ops.convert_to_tensor(max_wavelength ** (-np.arange(0, width, 2) / width), "float32")  # (K / 2,)
    angles = ops.cast(positions, "float32")[..., None, None] * frequencies  # (T, 1, K / 2) or (B, T, 1, K / 2)
    cosines, sines = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    first, second = x[..., : width // 2], x[..., width // 2 :]
    return ops.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def check_rotary_width(width, name="the width of a head"):
    """Raises ValueError unless features can turn in pairs."""
    if width % 2:
        raise ValueError(f"Rotary positions turn features in pairs, so {name} must be even. Received: {width}.")


def alibi_slopes(num_heads):
    """How much each head's logits fall with each step of distance: (H,) float32.

    For a power of two, slope h is 2 ** (-8 h / H), h = 1 .. H. Otherwise those of the power of two below, then every
    second one of the power of two above.

    Reference: Press, Smith, Lewis 2022, arXiv 2108.12409, sec. 3 and the code published with it.
    Example:
        >>> [float(slope) for slope in alibi_slopes(3)]
        [0.0625, 0.00390625, 0.25]
    """
    below = 2 ** math.floor(math.log2(num_heads))
    slopes = 2.0 ** (-8 * np.arange(1, below + 1) / below)
    between = 2.0 ** (-4 * np.arange(1, 2 * below + 1, 2) / below)
    return np.concatenate([slopes, between[: num_heads - below]]).astype("float32")


def alibi_bias(distances, num_heads):
    """-slope * |distance| for each head: (...) int -> (H, ...) float32."""
    slopes = ops.reshape(alibi_slopes(num_heads), (num_heads,) + (1,) * len(distances.shape))
    return -slopes * ops.cast(ops.abs(distances), "float32")


def relative_buckets(distances, num_buckets=32, max_distance=128, bidirectional=True):
    """Sorts distances s - t into buckets: one for each short distance, then wider and wider ones.

    Half the buckets (all, unless bidirectional) are for keys before the query, the other half for those after it,
    which otherwise fall together with distance 0. Of each half again half are exact, the rest logarithmic up to
    `max_distance`, beyond which all fall into the last.

    Args:
        distances: int tensor.
    Returns: int32 as `distances`, at least 0 and below `num_buckets`.
    Reference: Raffel et al. 2020, arXiv 1910.10683, sec. 2.1, and the code published with it.
    Example:
        >>> [int(bucket) for bucket in relative_buckets(ops.array([-200, -3, 0, 3]))]
        [15, 3, 0, 19]
    """
    half = num_buckets // 2 if bidirectional else num_buckets
    exact = half // 2
    # A table by distance: a logarithm in the graph would round differently from backend to backend.
    far = np.arange(max_distance + 1)
    ratios = np.maximum(far, 1).astype("float32") / np.float32(exact)
    share = np.log(ratios) / np.float32(math.log(max_distance / exact))
    table = np.where(far < exact, far, np.minimum(exact + (share * (half - exact)).astype("int32"), half - 1))
    size = ops.abs(distances) if bidirectional else ops.maximum(-distances, 0)
    buckets = ops.take(ops.convert_to_tensor(table.astype("int32")), ops.minimum(size, max_distance))
    return buckets + ops.where(distances > 0, half, 0) if bidirectional else buckets


def distances_of(num_queries, num_keys, offset=0):
    """The distances s - (t + offset) in the order of `distance_bias`: (T + S - 1,) int32."""
    return ops.arange(num_queries + num_keys - 1, dtype="int32") - (num_queries - 1) - offset


def sinusoids(positions, width, max_wavelength=10000.0):
    """Waves of growing length, sine and cosine in turn: int (...) -> float32 (..., width).

        [2 i]     = sin(position / max_wavelength ** (2 i / width))
        [2 i + 1] = cos(position / max_wavelength ** (2 i / width))

    Reference: Vaswani et al. 2017, arXiv 1706.03762, sec. 3.5.
    Example:
        >>> [round(float(x), 3) for x in sinusoids(ops.array([1]), 4)[0]]
        [0.841, 0.54, 0.01, 1.0]
    """
    pairs = np.arange(width) // 2
    frequencies = ops.convert_to_tensor(max_wavelength ** (-2 * pairs / width), "float32")
    # A cosine is a sine a quarter of a turn ahead, but adding that to a large angle would round it.
    angles = ops.cast(positions, "float32")[..., None] * frequencies  # (..., width)
    return ops.where(ops.arange(width) % 2 == 0, ops.sin(angles), ops.cos(angles))
