"""A recurrent step that reads a memory: Bahdanau et al. 2015, app. A.2, and Luong et al. 2015, sec. 3."""

import numpy as np


def attention_step(cell_step, read, x, states, attend, input_feeding, W_c=None, hidden=lambda inner: inner[0]):
    """One step of one row.

    Args:
        cell_step: (x, states) -> output, states, trace.
        read: query -> context, scores.
        states: [the cell's states] and, with input feeding, the attention vector of the step before.
        attend: "after": the new h asks (Luong); "before": the last h asks, and the cell reads the answer (Bahdanau).
        W_c: (A, V + U), of the attention vector tanh(W_c [c_t; h_t]), Luong's eq. (5); None leaves [c_t; h_t].
        hidden: from the cell's states to its last h.
    """
    inner, parts = states[0], [x]
    if attend == "before":
        context, scores = read(hidden(inner))
        parts.append(context)
    if input_feeding:
        parts.append(states[1])  # Luong's sec. 3.3: the vector goes beside the input
    h, inner, trace = cell_step(np.concatenate(parts), inner)
    if attend == "after":
        context, scores = read(h)
    vector = np.concatenate([context, h])
    if W_c is not None:
        vector = np.tanh(W_c @ vector)
    return vector, [inner, vector] if input_feeding else [inner], {**trace, "attention_scores": scores}
