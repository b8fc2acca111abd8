"""Attention of one query over the steps of one source sequence, in the papers' notation."""

import numpy as np


def softmax(logits, mask=None):
    """Softmax of (S,) among the entries where the mask is True; zeros when there is none."""
    mask = np.ones(len(logits), bool) if mask is None else mask
    scores = np.zeros(len(logits))
    if not mask.any():
        return scores
    largest = max(logit for logit, keep in zip(logits, mask, strict=True) if keep)
    for s, keep in enumerate(mask):
        scores[s] = np.exp(logits[s] - largest) if keep else 0
    return scores / scores.sum()


def bahdanau_logit(weights, s, h):
    """Bahdanau et al. 2015, app. A.1.2: a(s_{i-1}, h_j) = v_a . tanh(W_a s_{i-1} + U_a h_j)."""
    return weights["v_a"] @ np.tanh(weights["W_a"] @ s + weights["U_a"] @ h)


def normalized_bahdanau_logit(weights, s, h):
    """Raffel et al. 2017, sec. 2.4, without its r: g v / |v| . tanh(W s + V h + b)."""
    v = weights["v_a"]
    length = np.sqrt(sum(x * x for x in v))
    return weights["g"] * (v / length) @ np.tanh(weights["W_a"] @ s + weights["U_a"] @ h + weights["b"])


def dot_logit(weights, h_t, h_s):
    """Luong et al. 2015, sec. 3.1, "dot": h_t . h_s."""
    return h_t @ h_s


def general_logit(weights, h_t, h_s):
    """Luong et al. 2015, sec. 3.1, "general": h_t . W_a h_s."""
    return h_t @ (weights["W_a"] @ h_s)


def concat_logit(weights, h_t, h_s):
    """Luong et al. 2015, sec. 3.1, "concat": v_a . tanh(W_a [h_t; h_s])."""
    return weights["v_a"] @ np.tanh(weights["W_a"] @ np.concatenate([h_t, h_s]))


def scaled_dot_logit(weights, h_t, h_s):
    """A learned g times "dot"."""
    return weights["g"] * dot_logit(weights, h_t, h_s)


def scaled_general_logit(weights, h_t, h_s):
    """A learned g times "general"."""
    return weights["g"] * general_logit(weights, h_t, h_s)


def read(logit, weights, query, value, key=None, mask=None):
    """Context (V,) and scores (S,) for a query (D,): the sum of the source steps (S, V), weighed by the scores."""
    key = value if key is None else key
    scores = softmax(np.array([logit(weights, query, k) for k in key]), mask)
    context = np.zeros(value.shape[-1])
    for score, v in zip(scores, value, strict=True):
        context += score * v
    return context, scores


def read_all(logit, weights, query, value, key=None, mask=None):
    """`read` for every row and step of queries (B, T, D); mask (B, T, S). Contexts (B, T, V) and scores (B, T, S)."""
    contexts, scores = [], []
    for row in range(len(query)):
        pairs = [
            read(
                logit,
                weights,
                query[row, t],
                value[row],
                None if key is None else key[row],
                None if mask is None else mask[row, t],
            )
            for t in range(query.shape[1])
        ]
        contexts.append([context for context, _ in pairs])
        scores.append([score for _, score in pairs])
    return np.array(contexts), np.array(scores)
