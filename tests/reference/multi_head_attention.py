"""Multi-head attention, pair by pair, from the papers' equations."""

import numpy as np

from tests.reference.attention import softmax


def may_read(t, s, causal, window):
    """Vaswani et al. 2017, sec. 3.2.3, for query place t and key s; Beltagy et al. 2020, sec. 3.1, for the window."""
    if causal:
        return s <= t and (window is None or s > t - window)
    return window is None or abs(s - t) < window


def scores(query, key, mask=None, bias=None, distance_bias=None, causal=False, window=None, offset=0, scale=None):
    """Softmax of Q K^T / sqrt(K): (B, H, T, S), head h reading key h // (H // N)."""
    (B, T, H, K), (_, S, N, _) = query.shape, key.shape
    scale = 1 / np.sqrt(K) if scale is None else scale
    mask = np.broadcast_to(True if mask is None else four_axes(mask), (B, H, T, S))
    bias = np.broadcast_to(0 if bias is None else bias, (B, H, T, S))
    found = np.zeros((B, H, T, S))
    for b in range(B):
        for h in range(H):
            for t in range(T):
                logits = np.zeros(S)
                for s in range(S):
                    logits[s] = scale * query[b, t, h] @ key[b, s, h // (H // N)] + bias[b, h, t, s]
                    if distance_bias is not None:
                        logits[s] += distance_bias[h, s - t + T - 1]
                keep = np.array([mask[b, h, t, s] and may_read(t + offset, s, causal, window) for s in range(S)])
                found[b, h, t] = softmax(logits, keep)
    return found


def contexts(scores, value):
    """Sums of values by their scores: (B, T, H, V)."""
    (B, H, T, S), N = scores.shape, value.shape[2]
    found = np.zeros((B, T, H, value.shape[3]))
    for b in range(B):
        for h in range(H):
            for t in range(T):
                found[b, t, h] = sum(scores[b, h, t, s] * value[b, s, h // (H // N)] for s in range(S))
    return found


def attention(query, key, value, **settings):
    """`scores`, and what is read by them."""
    return contexts(scores(query, key, **settings), value)


def multi_head(weights, query, value, key=None, **settings):
    """Vaswani et al. 2017, sec. 3.2.2: (B, T, D), (B, S, D') -> outputs (B, T, D) and scores (B, H, T, S).

    `weights` has for each of query, key, value and output a kernel and a bias, shaped as those of Keras.
    """
    key = value if key is None else key
    heads = []
    for name, steps in (("query", query), ("key", key), ("value", value)):
        kernel, bias = weights[name]
        heads.append(np.array([[[x @ kernel[:, h] for h in range(kernel.shape[1])] for x in row] for row in steps]))
        heads[-1] = heads[-1] + bias
    found = scores(*heads[:2], **settings)
    kernel, bias = weights["output"]
    read = contexts(found, heads[2])
    output = [[sum(step[h] @ kernel[h] for h in range(len(step))) + bias for step in row] for row in read]
    return np.array(output), found


def rotated(x, positions, max_wavelength=10000.0):
    """Su et al. 2021, eq. (15) and (34), on heads (B, T, H, K), feature i with feature i + K / 2."""
    x, half = x.astype("float64"), x.shape[-1] // 2
    found = x.copy()
    for t, position in enumerate(positions):
        for i in range(half):
            angle = position * max_wavelength ** (-2 * i / (2 * half))
            first, second = x[:, t, :, i], x[:, t, :, i + half]
            found[:, t, :, i] = first * np.cos(angle) - second * np.sin(angle)
            found[:, t, :, i + half] = second * np.cos(angle) + first * np.sin(angle)
    return found


def four_axes(mask):
    return {2: lambda: mask[:, None, None], 3: lambda: mask[:, None], 4: lambda: mask}[np.ndim(mask)]()
