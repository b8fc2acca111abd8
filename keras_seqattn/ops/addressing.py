"""How the heads of a memory find their slots, and what they do there: the Neural Turing Machine, stage by stage.

A weighting (B, H, N) says how much each of H heads is at each of N slots; it is not negative and sums to one. A memory
is (B, N, M). What a head says of itself is (B, H), its key (B, H, M).

Reference: Graves, Wayne, Danihelka 2014, arXiv 1410.5401, sec. 3; their equations' numbers stand beside each stage.
"""

from keras import ops

from keras_seqattn.ops.masking import masked_softmax

SHORTEST = 1e-4  # length up to which a vector counts as less alike in proportion: at zero its direction has no gradient
SMALLEST = 1e-20  # weight at which a logarithm stops: far below what a weighting can tell from zero, and still finite


def address(memory, previous, key, key_strength, gate, shift, sharpening):
    """All four stages, one after the other.

        content    = content_weighting(memory, key, key_strength)     eq. (5)
        gated      = interpolate(content, previous, gate)             eq. (7)
        moved      = move(gated, shift)                               eq. (8)
        weighting  = sharpen(moved, sharpening)                       eq. (9)

    Args:
        memory: (B, N, M) float.
        previous: (B, H, N) float, the heads' weighting of the step before.
        key: (B, H, M) float.
        key_strength, gate, sharpening: (B, H) float.
        shift: (B, H, J) float, a weighting over the shifts.
    Returns: (B, H, N) float.
    """
    content = content_weighting(memory, key, key_strength)
    return sharpen(move(interpolate(content, previous, gate), shift), sharpening)


def cosine_similarity(key, memory):
    """How alike the directions of each key and each slot are, from -1 to 1.

        K[u, v] = u . v / (|u| |v|)                                   eq. (6)

    A vector of zeros is like nothing: 0, with a finite gradient.

    Args:
        key: (B, H, M) float.
        memory: (B, N, M) float.
    Returns: (B, H, N) float.
    Example:
        >>> memory = ops.array([[[2.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]])
        >>> [float(x) for x in cosine_similarity(ops.array([[[3.0, 0.0]]]), memory)[0, 0]]
        [1.0, 0.0, -1.0]
    """
    return ops.einsum("bhm,bnm->bhn", direction(key), direction(memory))


def direction(x):
    """x / |x| over the last axis; x / 1e-4 where |x| is less."""
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, SHORTEST**2))


def content_weighting(memory, key, key_strength):
    """Where the slots are that are like the key.

        weighting = softmax over N of key_strength * K[key, memory]   eq. (5)

    Args:
        memory: (B, N, M) float.
        key: (B, H, M) float.
        key_strength: (B, H) float, beta: how much a small difference counts; 0 reads all slots alike.
    Returns: (B, H, N) float32, or float64 where the memory is.
    """
    return masked_softmax(key_strength[..., None] * cosine_similarity(key, memory))


def interpolate(content, previous, gate):
    """By content, or on from where the head was.

        weighting = gate * content + (1 - gate) * previous            eq. (7)

    Args:
        content, previous: (B, H, N) float.
        gate: (B, H) float in [0, 1].
    Returns: (B, H, N) float.
    """
    return previous + gate[..., None] * (content - previous)


def move(weighting, shift):
    """Moves each weighting to the side, around the end of the memory to its beginning.

        moved[i] = sum over j of weighting[i - j] * shift[j]          eq. (8), indices modulo N

    Args:
        weighting: (B, H, N) float.
        shift: (B, H, J) float, a weighting over the shifts j = -R .. R, J = 2 R + 1.
    Returns: (B, H, N) float.
    Raises: ValueError when J is even, or greater than N.
    Example:
        >>> one_forward = ops.array([[[0.0, 0.0, 1.0]]])
        >>> [float(x) for x in move(ops.array([[[0.0, 0.25, 0.75]]]), one_forward)[0, 0]]
        [0.75, 0.0, 0.25]
    """
    slots, shifts = weighting.shape[-1], shift.shape[-1]
    if shifts % 2 == 0 or shifts > slots:
        raise ValueError(
            "The shifts go as far forward as back, and no further than once around the memory, so their number must be "
            f"odd and at most that of the slots. Received: {shifts} shifts, {slots} slots."
        )
    reach = shifts // 2
    if not reach:
        return weighting * shift
    # Around the end, once: weighting[i - j] stands at i - j + R.
    around = ops.concatenate([weighting[..., slots - reach :], weighting, weighting[..., :reach]], axis=-1)
    parts = (
        around[..., reach - j : reach - j + slots] * shift[..., j + reach, None] for j in range(-reach, reach + 1)
    )
    return sum(parts)


def sharpen(weighting, sharpening):
    """Makes what is large larger: what a shift over several slots has blurred is in focus again.

        sharpened[i] = weighting[i] ** sharpening / sum over j of weighting[j] ** sharpening          eq. (9)
                     = softmax over N of sharpening * log(weighting)

    In logarithms, as powers of small weights underflow, and a sum of them then divides zero by zero.

    Args:
        weighting: (B, H, N) float, at least 0.
        sharpening: (B, H) float, gamma, at least 1; 1 changes nothing.
    Returns: (B, H, N) float32, or float64 where the weighting is.
    Example:
        >>> [round(float(x), 2) for x in sharpen(ops.array([[[0.0, 0.25, 0.75]]]), ops.array([[2.0]]))[0, 0]]
        [0.0, 0.1, 0.9]
    """
    return masked_softmax(sharpening[..., None] * ops.log(weighting + SMALLEST))


def read(memory, weighting):
    """What the heads find: r = sum over N of weighting * memory, eq. (2).

    Args:
        memory: (B, N, M) float.
        weighting: (B, H, N) float.
    Returns: (B, H, M) float.
    """
    return ops.matmul(weighting, memory)


def erase_and_add(memory, weighting, erase, add):
    """Writes as the paper does: first all heads erase, then all add, so their order does not matter.

        erased = memory * product over H of (1 - weighting * erase)   eq. (3)
        memory = erased + sum over H of weighting * add               eq. (4)

    Args:
        memory: (B, N, M) float.
        weighting: (B, H, N) float.
        erase: (B, H, M) float in [0, 1].
        add: (B, H, M) float.
    Returns: (B, N, M) float.
    """
    for head in range(weighting.shape[1]):
        memory = memory * (1.0 - weighting[:, head, :, None] * erase[:, head, None, :])
    return memory + ops.einsum("bhn,bhm->bnm", weighting, add)


def overwrite(memory, weighting, value):
    """Writes by going over from what is there to a value, one head after the other.

        memory = weighting * value + (1 - weighting) * memory

    Args:
        memory: (B, N, M) float.
        weighting: (B, H, N) float.
        value: (B, H, M) float.
    Returns: (B, N, M) float.
    Reference: Olah and Carter 2016, Attention and Augmented Recurrent Neural Networks, Distill.
    """
    for head in range(weighting.shape[1]):
        memory = memory + weighting[:, head, :, None] * (value[:, head, None, :] - memory)
    return memory
