"""One step of one row, in the papers' notation: weights W (U, D) on the input, U (U, U) on the state, biases (U,)."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elman_step(weights, x, states):
    """Elman 1990: h_t = tanh(W x_t + U h_{t-1} + b)."""
    (h,) = states
    h = np.tanh(weights["W"] @ x + weights["U"] @ h + weights["b"])
    return h, [h], {"state": h}


def gru_step(weights, x, states):
    """Cho et al. 2014, eq. (5) to (8), with the biases that the paper leaves out."""
    (h,) = states
    r = sigmoid(weights["W_r"] @ x + weights["U_r"] @ h + weights["b_r"])  # eq. (5)
    z = sigmoid(weights["W_z"] @ x + weights["U_z"] @ h + weights["b_z"])  # eq. (6)
    candidate = np.tanh(weights["W"] @ x + weights["U"] @ (r * h) + weights["b"])  # eq. (8)
    h = z * h + (1 - z) * candidate  # eq. (7)
    return h, [h], {"reset_gate": r, "update_gate": z, "candidate": candidate}


def gru_reset_after_step(weights, x, states):
    """The GRU of cuDNN: the reset gate multiplies U h, and U has a bias of its own."""
    (h,) = states
    r = sigmoid(weights["W_r"] @ x + weights["b_r"] + weights["U_r"] @ h + weights["c_r"])
    z = sigmoid(weights["W_z"] @ x + weights["b_z"] + weights["U_z"] @ h + weights["c_z"])
    candidate = np.tanh(weights["W"] @ x + weights["b"] + r * (weights["U"] @ h + weights["c"]))
    h = z * h + (1 - z) * candidate
    return h, [h], {"reset_gate": r, "update_gate": z, "candidate": candidate}


def lstm_step(weights, x, states):
    """Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000."""
    h, c = states
    i = sigmoid(weights["W_i"] @ x + weights["U_i"] @ h + weights["b_i"])
    f = sigmoid(weights["W_f"] @ x + weights["U_f"] @ h + weights["b_f"])
    o = sigmoid(weights["W_o"] @ x + weights["U_o"] @ h + weights["b_o"])
    candidate = np.tanh(weights["W_c"] @ x + weights["U_c"] @ h + weights["b_c"])
    c = f * c + i * candidate
    h = o * np.tanh(c)
    trace = {"input_gate": i, "forget_gate": f, "output_gate": o, "candidate": candidate, "cell": c}
    return h, [h, c], trace


def stacked_step(steps, x, states):
    """Each step reads the output of the one below it."""
    new_states, trace = [], {}
    for index, (step, state) in enumerate(zip(steps, states, strict=True)):
        x, state, values = step(x, state)
        new_states.append(state)
        trace.update({f"{index}/{name}": value for name, value in values.items()})
    return x, new_states, trace
