"""How tokens are chosen, in plain Python and NumPy, one row at a time.

A rule is called as `rule(logits (V,), prompt, answer, end_id)`, with lists of tokens, and gives logits (V,).
"""

import numpy as np


def min_length(length):
    """The end token is not allowed before the answer has `length` tokens."""

    def rule(logits, prompt, answer, end_id):
        logits = logits.copy()
        if len(answer) < length:
            logits[end_id] = -np.inf
        return logits

    return rule


def repetition_penalty(penalty):
    """Keskar et al. 2019, sec. 4.1, with the division and the multiplication that keep a penalty a penalty."""

    def rule(logits, prompt, answer, end_id):
        logits = logits.copy()
        for token in {*prompt, *answer}:
            logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        return logits

    return rule


def no_repeat_ngrams(size):
    """A token is not allowed when it would make an n-gram that stands there already."""

    def rule(logits, prompt, answer, end_id):
        logits, tokens = logits.copy(), [*prompt, *answer]
        ngrams = {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}
        last = tokens[len(tokens) - size + 1 :] if len(tokens) >= size - 1 else None
        for token in range(len(logits)):
            if last is not None and (*last, token) in ngrams:
                logits[token] = -np.inf
        return logits

    return rule


def prefix(tokens):
    """The answer begins with these tokens; None leaves a step free."""

    def rule(logits, prompt, answer, end_id):
        if len(answer) >= len(tokens) or tokens[len(answer)] is None:
            return logits
        forced = np.full_like(logits, -np.inf)
        forced[tokens[len(answer)]] = logits[tokens[len(answer)]]
        return forced

    return rule


def suppress_tokens(ids):
    """These tokens are not allowed."""

    def rule(logits, prompt, answer, end_id):
        logits = logits.copy()
        logits[list(ids)] = -np.inf
        return logits

    return rule


def kept_tokens(logits, temperature, top_k, top_p):
    """The tokens that may be drawn, likeliest first: the `top_k` likeliest, then the fewest that reach `top_p`."""
    order = np.argsort(-logits, kind="stable")[:top_k]
    scaled = logits[order].astype("float64") / temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    kept, reached = [], 0.0
    for token, prob in zip(order, probs, strict=True):
        kept.append(int(token))
        reached += prob
        if reached >= (top_p or 1.0):
            break
    return kept


def coverage(attention, weight):
    """Wu et al. 2016, eq. (14): weight * sum over source steps i of log(min(sum over target steps j of p_ij, 1))."""
    total = 0.0
    for source_step in range(attention.shape[1]):
        total += np.log(min(sum(float(p) for p in attention[:, source_step]), 1.0))
    return weight * total
