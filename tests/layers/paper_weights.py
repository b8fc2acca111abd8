"""A layer's weights as the papers write them: one matrix a gate, applied from the left, in float64."""

import numpy as np
from keras import ops


def arrays(layer):
    """The weights of a layer by name, in float64."""
    return {weight.name: numpy(weight).astype("float64") for weight in layer.weights}


def numpy(tensor):
    """A tensor or variable of any backend as an array of NumPy."""
    return ops.convert_to_numpy(tensor)


def elman(weights):
    return {"W": weights["kernel"].T, "U": weights["recurrent_kernel"].T, "b": bias(weights, 1)[0]}


def jordan(weights):
    b_y = weights.get("output_bias", np.zeros(weights["output_kernel"].shape[1]))
    return {**elman(weights), "W_y": weights["output_kernel"].T, "b_y": b_y}


def gru(weights):
    """Keras's order: update, reset, candidate. With reset after, the second row of the bias goes with U."""
    (W_z, W_r, W), (U_z, U_r, U) = split(weights["kernel"], 3), split(weights["recurrent_kernel"], 3)
    b = weights.get("bias", np.zeros(3 * len(U)))
    (b_z, b_r, b_h), (c_z, c_r, c_h) = (np.split(part, 3) for part in (b if b.ndim == 2 else (b, 0 * b)))
    return {
        "W_z": W_z, "W_r": W_r, "W": W, "U_z": U_z, "U_r": U_r, "U": U,
        "b_z": b_z, "b_r": b_r, "b": b_h, "c_z": c_z, "c_r": c_r, "c": c_h,
        **gains(weights, "zrh"),
    }  # fmt: skip


def lstm(weights):
    """Keras's order: input, forget, candidate, output; without the first where gates are coupled."""
    units = weights["recurrent_kernel"].shape[0]
    gates = "ifco"[-(weights["kernel"].shape[1] // units) :]
    W, U = split(weights["kernel"], len(gates)), split(weights["recurrent_kernel"], len(gates))
    names = {"input": "i", "forget": "f", "output": "o"}
    peepholes = {f"p_{names[name[9:]]}": value for name, value in weights.items() if name.startswith("peephole_")}
    cell = {"gain_cell": weights["cell_gain"]} if "cell_gain" in weights else {}
    if cell:
        cell["shift_cell"] = weights.get("cell_shift", np.zeros(units))
    return {
        f"{letter}_{gate}": x
        for letter, xs in (("W", W), ("U", U), ("b", bias(weights, len(gates))))
        for gate, x in zip(gates, xs, strict=True)
    } | {**gains(weights, gates), **peepholes, **cell}


def gains(weights, gates):
    """Gains of layer normalization by gate, where there are any."""
    return {
        f"gain_{letter}_{gate}": gain
        for letter, name in (("x", "kernel_gain"), ("h", "recurrent_gain"))
        if name in weights
        for gate, gain in zip(gates, np.split(weights[name], len(gates)), strict=True)
    }


def bahdanau(weights):
    normalization = {"g": weights["scale"], "b": weights["bias"]} if "scale" in weights else {}
    return {
        "W_a": weights["query_kernel"].T,
        "U_a": weights["key_kernel"].T,
        "v_a": weights["energy"],
        **normalization,
    }


def luong(weights):
    """Kernels of "general", "concat" and "location"; "dot" has none."""
    scale = {"g": weights["scale"]} if "scale" in weights else {}
    if "key_kernel" in weights:
        return {"W_a": weights["key_kernel"].T, **scale}
    if "kernel" in weights:
        return {"W_a": weights["kernel"].T, "v_a": weights["energy"]}
    if "location_kernel" in weights:
        return {"W_a": weights["location_kernel"].T}
    return scale


def scorer(weights):
    """Of an attention that compares by another one, what the comparison needs."""
    return bahdanau(weights) if "query_kernel" in weights else luong(weights)


def local(weights):
    if "position_kernel" not in weights:
        return scorer(weights)
    return {**scorer(weights), "W_p": weights["position_kernel"].T, "v_p": weights["position_energy"]}


def monotonic(weights):
    return {**scorer(weights), "r": weights["score_bias"]}


def location_sensitive(weights):
    """F holds one filter a row."""
    return {
        "W": weights["query_kernel"].T,
        "V": weights["key_kernel"].T,
        "U": weights["location_kernel"].T,
        "F": weights["filter_kernel"][:, 0].T,
        "w": weights["energy"],
        "b": weights["bias"],
    }


def split(kernel, gates):
    return [part.T for part in np.split(kernel, gates, axis=1)]


def bias(weights, gates):
    return np.split(weights.get("bias", np.zeros(weights["kernel"].shape[1])), gates)


def randomize(layer, rng, scale=0.5):
    """Draws every weight anew, biases included, so that none of them can be left out unseen."""
    for weight in layer.trainable_variables:
        weight.assign(scale * rng.normal(size=weight.shape))
    return layer
