"""Attentions that choose where to read, or remember where they did: one row and one step at a time, as in the papers.

A step is `step(weights, query, value, state, mask, noise) -> context, scores, state` for a query (D,), a value (S, V),
a mask (S,) and, where there is any, noise (S,).
"""

import numpy as np

from tests.reference.attention import softmax


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def weighed(scores, value):
    context = np.zeros(value.shape[-1])
    for score, v in zip(scores, value, strict=True):
        context += score * v
    return context


def places(mask):
    """The steps that may be read, each with its place among them, from 1."""
    return list(enumerate((s for s, may_read in enumerate(mask) if may_read), start=1))


def location_step(weights, h_t, value, state, mask, noise=None):
    """Luong et al. 2015, sec. 3.1, "location": a_t = softmax(W_a h_t), the top part for a short sentence."""
    scores, steps = np.zeros(len(value)), places(mask)
    for (_, s), score in zip(steps, softmax((weights["W_a"] @ h_t)[: len(steps)]) if steps else [], strict=True):
        scores[s] = score
    return weighed(scores, value), scores, state


def local_step(logit, D, predictive):
    """Luong et al. 2015, sec. 3.2: local-m and local-p. The state is t."""

    def step(weights, h_t, value, t, mask, noise=None):
        t, steps = t + 1, places(mask)
        p_t = t
        if predictive:
            p_t = len(steps) * sigmoid(weights["v_p"] @ np.tanh(weights["W_p"] @ h_t))  # eq. (9)
        near = [(place, s) for place, s in steps if p_t - D <= place <= p_t + D]
        scores = np.zeros(len(value))
        logits = np.array([logit(weights, h_t, value[s]) for _, s in near])
        for (place, s), align in zip(near, softmax(logits) if near else [], strict=True):
            sigma = D / 2
            scores[s] = align * (np.exp(-((place - p_t) ** 2) / (2 * sigma**2)) if predictive else 1)  # eq. (10)
        return weighed(scores, value), scores, t

    return step


def expected_monotonic_step(logit):
    """Raffel et al. 2017, eq. (11) to (14). The state is alpha_{i-1}."""

    def step(weights, s_i, value, last, mask, noise=None):
        p = chances(logit, weights, s_i, value, mask, noise)
        alpha, q, p_before = np.zeros(len(value)), 0, 0
        for j in range(len(value)):
            q = (1 - p_before) * q + last[j]  # eq. (13)
            alpha[j] = p[j] * q  # eq. (14)
            p_before = p[j]
        return weighed(alpha, value), alpha, alpha

    return step


def chances(logit, weights, s_i, value, mask, noise=None):
    """p_{i,j}, of which a step that may not be read has none: sec. 2.4, with the noise of sec. 2.5."""
    noise = np.zeros(len(value)) if noise is None else noise
    e = [logit(weights, s_i, h) + weights["r"] + n for h, n in zip(value, noise, strict=True)]
    return np.array([sigmoid(e_j) if may_read else 0.0 for e_j, may_read in zip(e, mask, strict=True)])


def expected_alignment(p, last):
    """Raffel et al. 2017, eq. (9): alpha_j = p_j * sum over k <= j of last_k * product over k <= l < j of (1 - p_l)."""
    alpha = np.zeros(len(p))
    for j in range(len(p)):
        for k in range(j + 1):
            product = last[k]
            for m in range(k, j):
                product *= 1 - p[m]
            alpha[j] += p[j] * product
    return alpha


def chosen_monotonic_step(logit):
    """Raffel et al. 2017, algorithm 1, with z = 1 where p > 1/2. The state is one at t_{i-1}, or zero after the end."""

    def step(weights, s_i, value, last, mask, noise=None):
        p, scores = chances(logit, weights, s_i, value, mask), np.zeros(len(value))
        if last.any():
            for j in range(int(np.argmax(last)), len(value)):
                if p[j] > 0.5:
                    scores[j] = 1
                    break
        return weighed(scores, value), scores, scores

    return step


def location_sensitive_step(cumulative):
    """Chorowski et al. 2015, eq. (8) and (9). The state is alpha_{i-1}, or the sum of all before (Tacotron 2)."""

    def step(weights, s_i, value, seen, mask, noise=None):
        logits = []
        for j, h in enumerate(value):
            f = np.zeros(len(weights["F"]))
            for number, taps in enumerate(weights["F"]):  # eq. (8)
                for tap, weight in enumerate(taps):
                    at = j + tap - len(taps) // 2
                    f[number] += weight * seen[at] if 0 <= at < len(value) else 0
            e = weights["W"] @ s_i + weights["V"] @ h + weights["U"] @ f + weights["b"]  # eq. (9)
            logits.append(weights["w"] @ np.tanh(e))
        scores = softmax(np.array(logits), mask)
        return weighed(scores, value), scores, seen + scores if cumulative else scores

    return step


def first_read(steps):
    """The state of a monotonic attention before its first step: where it begins to look."""
    return np.eye(steps)[0]


def read_in_turn(step, first_state, weights, query, value, mask=None, query_mask=None, noise=None):
    """`step` over the rows and steps of queries (B, T, D).

    Args:
        first_state: from the number of steps S to a state.
        mask: (B, T, S); query_mask: (B, T), False where a step changes no state; noise: (T, B, S).
    Returns: contexts (B, T, V) and scores (B, T, S).
    """
    B, T, S = len(query), query.shape[1], value.shape[1]
    mask = np.ones((B, T, S), bool) if mask is None else mask
    contexts, scores = np.zeros((B, T, value.shape[-1])), np.zeros((B, T, S))
    for row in range(B):
        state = first_state(S)
        for t in range(T):
            drawn = None if noise is None else noise[t, row]
            contexts[row, t], scores[row, t], after = step(
                weights, query[row, t], value[row], state, mask[row, t], drawn
            )
            if query_mask is None or query_mask[row, t]:
                state = after
    return contexts, scores
