"""One step of one row, in the papers' notation: weights W (U, D) on the input, U (U, U) on the state, biases (U,)."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elman_step(weights, x, states):
    """Elman 1990: h_t = tanh(W x_t + U h_{t-1} + b)."""
    (h,) = states
    h = np.tanh(weights["W"] @ x + weights["U"] @ h + weights["b"])
    return h, [h], {"state": h}


def jordan_step(weights, x, states):
    """Jordan 1986: h_t = tanh(W x_t + U y_{t-1} + b), y_t = tanh(W_y h_t + b_y)."""
    (y,) = states
    h = np.tanh(weights["W"] @ x + weights["U"] @ y + weights["b"])
    y = np.tanh(weights["W_y"] @ h + weights["b_y"])
    return y, [y], {"state": h, "output": y}


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


def peephole_lstm_step(weights, x, states):
    """Graves 2013, eq. (7) to (11): input and forget gate see the last cell, the output gate the new one."""
    h, c = states
    i = sigmoid(weights["W_i"] @ x + weights["U_i"] @ h + weights["p_i"] * c + weights["b_i"])
    f = sigmoid(weights["W_f"] @ x + weights["U_f"] @ h + weights["p_f"] * c + weights["b_f"])
    candidate = np.tanh(weights["W_c"] @ x + weights["U_c"] @ h + weights["b_c"])
    c = f * c + i * candidate
    o = sigmoid(weights["W_o"] @ x + weights["U_o"] @ h + weights["p_o"] * c + weights["b_o"])
    h = o * np.tanh(c)
    return h, [h, c], {"input_gate": i, "forget_gate": f, "output_gate": o, "candidate": candidate, "cell": c}


def coupled_lstm_step(weights, x, states):
    """Greff et al. 2017, CIFG: i_t = 1 - f_t."""
    h, c = states
    f = sigmoid(weights["W_f"] @ x + weights["U_f"] @ h + weights["b_f"])
    o = sigmoid(weights["W_o"] @ x + weights["U_o"] @ h + weights["b_o"])
    candidate = np.tanh(weights["W_c"] @ x + weights["U_c"] @ h + weights["b_c"])
    c = f * c + (1 - f) * candidate
    h = o * np.tanh(c)
    return h, [h, c], {"input_gate": 1 - f, "forget_gate": f, "output_gate": o, "candidate": candidate, "cell": c}


def layer_normalized(a, gain, shift=0.0):
    """Ba et al. 2016, eq. (15), with the same small number under the root as ours."""
    mean = sum(a) / len(a)
    variance = sum((number - mean) ** 2 for number in a) / len(a)
    return gain * (a - mean) / np.sqrt(variance + 1e-5) + shift


def layer_norm_lstm_step(weights, x, states, gates="ifco", peephole=False):
    """Ba et al. 2016, eq. (20) to (22): one LN of all gates' W x, one of all gates' U h, one of the cell.

    `gates` without "i" couples input and forget gate, `peephole` lets gates see the cell: the other papers' options.
    """
    h, c = states

    def joined(letter):
        return np.concatenate([weights[f"{letter}_{gate}"] for gate in gates])

    z = layer_normalized(joined("W") @ x, joined("gain_x")) + joined("b")
    z = z + layer_normalized(joined("U") @ h, joined("gain_h"))
    z = dict(zip(gates, np.split(z, len(gates)), strict=True))
    see = {gate: weights[f"p_{gate}"] if peephole else 0.0 for gate in gates if gate != "c"}
    f = sigmoid(z["f"] + see["f"] * c)
    i = sigmoid(z["i"] + see["i"] * c) if "i" in gates else 1 - f
    candidate = np.tanh(z["c"])
    c = f * c + i * candidate
    o = sigmoid(z["o"] + see["o"] * c)
    h = o * np.tanh(layer_normalized(c, weights["gain_cell"], weights["shift_cell"]))
    return h, [h, c], {"input_gate": i, "forget_gate": f, "output_gate": o, "candidate": candidate, "cell": c}


def layer_norm_gru_step(weights, x, states, reset_after=False):
    """Ba et al. 2016, the GRU: both gates are normalized together, the candidate by itself."""
    (h,) = states

    def both(letter):
        return np.concatenate([weights[f"{letter}_z"], weights[f"{letter}_r"]])

    gates = layer_normalized(both("W") @ x, both("gain_x")) + both("b")
    gates = gates + layer_normalized(both("U") @ h, both("gain_h")) + (both("c") if reset_after else 0.0)
    z, r = np.split(sigmoid(gates), 2)
    from_x = layer_normalized(weights["W"] @ x, weights["gain_x_h"]) + weights["b"]
    if reset_after:
        from_h = r * (layer_normalized(weights["U"] @ h, weights["gain_h_h"]) + weights["c"])
    else:
        from_h = layer_normalized(weights["U"] @ (r * h), weights["gain_h_h"])
    candidate = np.tanh(from_x + from_h)
    h = z * h + (1 - z) * candidate
    return h, [h], {"reset_gate": r, "update_gate": z, "candidate": candidate}


def dropped(weights, input_mask, state_mask):
    """Weights of the inputs and of the state that see what the masks (D,) and (U,) leave: Gal and Ghahramani 2016."""
    masks = {"W": input_mask, "U": state_mask}
    kept = {"W_y"}  # Jordan's output does not come from the inputs
    return {name: w if name in kept else w * masks.get(name[0], 1.0) for name, w in weights.items()}


def zoneout_step(step, keep, x, states):
    """Krueger et al. 2017, eq. (4): where `keep`, one share (U,) a state, an old value stays. Shares may be means."""
    _, new_states, trace = step(x, states)
    states = [k * old + (1 - k) * new for k, old, new in zip(keep, states, new_states, strict=True)]
    return states[0], states, {**trace, **({"cell": states[1]} if len(states) == 2 else {})}


def stacked_step(steps, x, states):
    """Each step reads the output of the one below it."""
    new_states, trace = [], {}
    for index, (step, state) in enumerate(zip(steps, states, strict=True)):
        x, state, values = step(x, state)
        new_states.append(state)
        trace.update({f"{index}/{name}": value for name, value in values.items()})
    return x, new_states, trace
