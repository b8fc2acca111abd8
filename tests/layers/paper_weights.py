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


def gru(weights):
    """Keras's order: update, reset, candidate. With reset after, the second row of the bias goes with U."""
    (W_z, W_r, W), (U_z, U_r, U) = split(weights["kernel"], 3), split(weights["recurrent_kernel"], 3)
    b = weights.get("bias", np.zeros(3 * len(U)))
    (b_z, b_r, b_h), (c_z, c_r, c_h) = (np.split(part, 3) for part in (b if b.ndim == 2 else (b, 0 * b)))
    return {
        "W_z": W_z, "W_r": W_r, "W": W, "U_z": U_z, "U_r": U_r, "U": U,
        "b_z": b_z, "b_r": b_r, "b": b_h, "c_z": c_z, "c_r": c_r, "c": c_h,
    }  # fmt: skip


def lstm(weights):
    """Keras's order: input, forget, candidate, output."""
    W, U, b = split(weights["kernel"], 4), split(weights["recurrent_kernel"], 4), bias(weights, 4)
    gates = "ifco"
    return {
        f"{letter}_{gate}": x
        for letter, xs in (("W", W), ("U", U), ("b", b))
        for gate, x in zip(gates, xs, strict=True)
    }


def bahdanau(weights):
    return {"W_a": weights["query_kernel"].T, "U_a": weights["key_kernel"].T, "v_a": weights["energy"]}


def luong(weights):
    """Kernels of "general" and "concat"; "dot" has none."""
    if "key_kernel" in weights:
        return {"W_a": weights["key_kernel"].T}
    if "kernel" in weights:
        return {"W_a": weights["kernel"].T, "v_a": weights["energy"]}
    return {}


def split(kernel, gates):
    return [part.T for part in np.split(kernel, gates, axis=1)]


def bias(weights, gates):
    units = weights["recurrent_kernel"].shape[0]
    return np.split(weights.get("bias", np.zeros(gates * units)), gates)


def randomize(layer, rng, scale=0.5):
    """Draws every weight anew, biases included, so that none of them can be left out unseen."""
    for weight in layer.trainable_variables:
        weight.assign(scale * rng.normal(size=weight.shape))
    return layer
