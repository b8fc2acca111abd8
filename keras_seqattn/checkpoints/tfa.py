"""Weights of models that were written with tfa.seq2seq, the sequence-to-sequence part of tensorflow-addons."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_seqattn.checkpoints.weight_source import open_source
from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    Bidirectional,
    LuongAttention,
    MonotonicAttention,
    Recurrent,
    StackedCells,
)

# From a weight of our attentions to its name in tfa's mechanisms.
MECHANISM_NAMES = {
    "query_kernel": "query_layer/kernel",
    "key_kernel": "memory_layer/kernel",
    "energy": "attention_v",
    "scale": "attention_g",
    "bias": "attention_b",
    "score_bias": "attention_score_bias",
}
MECHANISMS = (BahdanauAttention, LuongAttention, MonotonicAttention)
# From a weight of our cells to its name in those of tfa.rnn, where it has another.
CELL_NAMES = {
    "peephole_input": "input_gate_peephole_weights",
    "peephole_forget": "forget_gate_peephole_weights",
    "peephole_output": "output_gate_peephole_weights",
}


class Part(NamedTuple):
    """One variable of ours, and how it is made of arrays of the source.

    Attributes:
        variable: Keras variable.
        shapes: dict from the name below the layer's path to the shape that the array must have; None for any size.
        make: from these arrays to the variable's value.
    """

    variable: Any
    shapes: dict
    make: Callable


def load_tfa(source, layers, attention_activation=None):
    """Fills layers with the weights of a model that was written with tfa.seq2seq and Keras 2.

    An `AttentionCell` takes those of an `AttentionWrapper`. With W_i, (U + V_i, A_i), the kernel of its attention layer
    for mechanism i, whose inputs are [output; context_i] there and [context_0; context_1; ..; output] here:

        vector_kernel = [[W_0[U:],      0    ],        with `attention_layer_size`; as many rows and columns of blocks
                         [   0,      W_1[U:] ],        as there are mechanisms
                         [W_0[:U],   W_1[:U] ]]
        vector_kernel = [[I], [0]]                     without: the attention is the context, V_0 + V_1 + .. wide

    Everything else is copied: the weights of the mechanisms, of cells (also stacked, or with peepholes), of `Dense`,
    `Embedding` and Keras's own recurrent layers. All is checked first; when something does not fit, no layer changes.

    Args:
        source: what holds the weights: the prefix of a TensorFlow checkpoint or a folder (the latest in it), the
            weights of a model in the HDF5 format of Keras 2, or a dict of arrays by name as from `read_tfa`.
        layers: dict from a path in `source` to the layer, built, that takes what lies below. In a checkpoint the path
            is that of the attributes, such as "decoder/cell" for an `AttentionWrapper` that is `cell` of `decoder`;
            in an HDF5 file it begins with the name of the layer.
        attention_activation: that of tfa's attention layer, which the cell must have too. None is that of
            `attention_layer_size`; only `attention_layer=Dense(..., activation="tanh")` had another.
    Returns: list of names in `source` that lie below none of the paths, such as those of an optimizer.
    Raises: ValueError when a path is not there, a layer is not built, a name is missing or left over below a path, a
        shape differs, or a cell computes something else than tfa's wrapper.
    Example:
        >>> dense = keras.layers.Dense(2)
        >>> dense.build((None, 3))
        >>> arrays = {"decoder/fc/kernel": np.ones((3, 2)), "decoder/fc/bias": np.zeros(2), "optimizer/iter": 7}
        >>> load_tfa(arrays, {"decoder/fc": dense})
        ['optimizer/iter']
    """
    if not isinstance(layers, dict):
        raise ValueError(f"`layers` must be a dict from paths in `source` to layers. Received: {layers=}.")
    weights = open_source(source)
    values, used = [], set()
    for path, layer in layers.items():
        found = weights.below(path)
        if not found:
            raise ValueError(
                "`layers` must map paths in `source` to layers, and below each path there must be weights. "
                f"Received: {path=}. Names in `source`: {listed(weights.below())}."
            )
        if not getattr(layer, "built", False):
            raise ValueError(
                "Each of `layers` must be built, so that its weights are there: call it once, or the model that it "
                f"belongs to. Received: layers[{path!r}]={layer!r}."
            )
        used.update(found.values())
        values += layer_values(weights, path, found, layer, attention_activation)
    for variable, value in values:
        variable.assign(value)
    if weights.in_order:  # in an HDF5 file, one weight may stand in the groups of several layers
        alike = {without_group(key) for key in used}
        used = {key for key in weights.every_key() if without_group(key) in alike}
    return [name for name, key in weights.below().items() if key not in used]


def read_tfa(source):
    """The weights in `source` by name: what there is to load, and below which paths.

    Args:
        source: as that of `load_tfa`.
    Returns: dict from name to array. In a checkpoint, where several paths lead to a weight, this is the shortest.
    Example:
        >>> {name: array.shape for name, array in read_tfa({"decoder/fc/kernel": np.ones((3, 2))}).items()}
        {'decoder/fc/kernel': (3, 2)}
    """
    weights = open_source(source)
    return {name: weights.read(key) for name, key in weights.below().items()}


def layer_values(weights, path, found, layer, attention_activation):
    """What each variable of a layer becomes, checked: pairs of variable and array."""
    # Here and there, the path may be that of a recurrent layer or that of its cell.
    cell = layer.cell if isinstance(layer, Recurrent | keras.layers.RNN) else None
    within = "cell/" if any(name.startswith("cell/") for name in found) else ""
    found = {tracked_name(name): key for name, key in found.items()}
    plan = list(parts(layer if cell is None else cell, within, path, found, weights.in_order, attention_activation))
    wanted = [name for part in plan for name in part.shapes]
    found, left_over = in_order(found, wanted) if weights.in_order else (found, sorted(set(found) - set(wanted)))
    missing = [name for name in wanted if name not in found]
    if missing or left_over:
        raise ValueError(
            "The weights below a path and those of its layer must be the same. "
            f"Received: layers[{path!r}]={layer.name!r}, a {type(layer).__name__}. "
            f"Missing in `source`: {listed(missing)}. Left over: {listed(left_over)}."
        )
    values = []
    for part in plan:
        arrays = [weights.read(found[name]) for name in part.shapes]
        for (name, shape), array in zip(part.shapes.items(), arrays, strict=True):
            if len(shape) != array.ndim or any(a not in (None, b) for a, b in zip(shape, array.shape, strict=True)):
                raise ValueError(
                    f"The weights in `source` must have the shapes of those of `layers`. Received: {found[name]!r} of "
                    f"shape {array.shape}, where {part.variable.path!r} needs {shape}."
                )
        value = part.make(*arrays)
        if value.shape != tuple(part.variable.shape):
            raise ValueError(
                "The weights in `source` must have the shapes of those of `layers`. Received: "
                f"{', '.join(repr(found[name]) for name in part.shapes)}, which make shape {value.shape}, where "
                f"{part.variable.path!r} has {tuple(part.variable.shape)}."
            )
        values.append((part.variable, value))
    return values


def parts(layer, start, path, found, ordered, attention_activation):
    """The parts of a layer, whose names begin with `start`, in the order in which Keras 2 holds the weights."""
    inner = (path, found, ordered, attention_activation)
    if isinstance(layer, AttentionCell):
        yield from wrapper_parts(layer, start, *inner)
    elif isinstance(getattr(layer, "cell", None), keras.layers.Layer):  # a recurrent layer, or a cell around a cell
        yield from parts(layer.cell, f"{start}cell/", *inner)
    elif isinstance(layer, Bidirectional):
        yield from parts(layer.layer, f"{start}forward_layer/", *inner)
        yield from parts(layer.backward_layer, f"{start}backward_layer/", *inner)
    elif isinstance(layer, keras.layers.Bidirectional):
        yield from parts(layer.forward_layer, f"{start}forward_layer/", *inner)
        yield from parts(layer.backward_layer, f"{start}backward_layer/", *inner)
    elif isinstance(layer, StackedCells | keras.layers.StackedRNNCells):
        for index, cell in enumerate(layer.cells):
            yield from parts(cell, f"{start}cells/{index}/", *inner)
    else:
        names = [variable.name for variable in layer.weights]
        if len(set(names)) != len(names):
            raise ValueError(
                "A layer that is made of others cannot be filled at once: give each of its layers a path of its own. "
                f"Received: layers[{path!r}]={layer!r}."
            )
        for variable in layer.weights:
            yield copied(variable, start + CELL_NAMES.get(variable.name, variable.name))


def wrapper_parts(cell, start, path, found, ordered, attention_activation):
    """The parts of an `AttentionCell`: the attention layers of tfa's wrapper, its cell, its mechanisms."""
    attentions = cell.attention if isinstance(cell.attention, list | tuple) else [cell.attention]
    inside = [
        *parts(cell.cell, f"{start}_cell/", path, found, ordered, attention_activation),
        *(
            part
            for index, attention in enumerate(attentions)
            for part in mechanism_parts(attention, f"{start}_attention_mechanisms/{index}/", path)
        ),
    ]
    if cell.attend != "after":
        raise ValueError(
            "tfa's wrapper attends after the cell has run, so the `AttentionCell` must too: attend='after'. "
            f"Received: layers[{path!r}] with attend={cell.attend!r}."
        )
    # Each mechanism's keys are a product with its memory, whose width the kernel tells.
    widths = [weights_by_name(attention)["key_kernel"].shape[0] for attention in attentions]  # V_0, V_1, ..
    names = [f"{start}_attention_layers/{index}/kernel" for index in range(len(attentions))]
    units = cell.vector_kernel.shape[0] - sum(widths) if cell.attention_units else None  # U
    if ordered:
        kernels = [name for part in inside for name in part.shapes if last(name) == "kernel"]
        projects = sum(last(name) == "kernel" for name in found) > len(kernels)
    else:
        projects = any(name.startswith(f"{start}_attention_layers/") for name in found)
    linear = cell.attention_activation == keras.activations.linear
    if not projects and not (linear and cell.attention_units == sum(widths)):
        raise ValueError(
            "tfa's wrapper has no attention layer in `source`, so its attention is the context alone. The "
            f"`AttentionCell` must have attention_units={sum(widths)}, as wide as the memory, and "
            f"attention_activation=None. Received: layers[{path!r}] with attention_units={cell.attention_units}, "
            f"attention_activation={name_of(cell.attention_activation)!r}."
        )
    if projects and cell.attention_units is None:
        raise ValueError(
            "tfa's wrapper has an attention layer in `source`, so the `AttentionCell` must have `attention_units`, its "
            f"width. Received: layers[{path!r}] with attention_units=None."
        )
    if projects and cell.attention_activation != keras.activations.get(attention_activation):
        raise ValueError(
            "The `AttentionCell` must have the activation of tfa's attention layer: None, unless that was "
            "`attention_layer=Dense(..., activation=...)`; then give `load_tfa` the same `attention_activation`. "
            f"Received: layers[{path!r}] with attention_activation={name_of(cell.attention_activation)!r}, and "
            f"{attention_activation=}."
        )
    if projects:
        shapes = {name: (units + width, None) for name, width in zip(names, widths, strict=True)}
        yield Part(cell.vector_kernel, shapes, lambda *kernels: side_by_side(kernels, units))
    else:
        yield Part(cell.vector_kernel, {}, lambda: np.eye(units + sum(widths), sum(widths), dtype="float32"))
    yield from inside


def mechanism_parts(attention, start, path):
    """The parts of an attention, by tfa's names for its mechanism."""
    weights = weights_by_name(attention)
    if not isinstance(attention, MECHANISMS) or "key_kernel" not in weights or not set(weights) <= set(MECHANISM_NAMES):
        raise ValueError(
            "tfa's mechanisms are `BahdanauAttention`, `LuongAttention` with score 'general', and `MonotonicAttention` "
            f"with one of these. Received: layers[{path!r}] with {attention!r}, whose weights are {list(weights)}."
        )
    for ours, theirs in sorted(MECHANISM_NAMES.items(), key=lambda pair: pair[0].endswith("kernel")):
        if ours in weights:
            yield copied(weights[ours], start + theirs)


def weights_by_name(layer):
    """A layer's weights, and those of the layers in it, by their own names."""
    return {variable.name: variable for variable in layer.weights}


def tracked_name(name):
    """A weight's name in tfa's mechanism: Luong's scale is also the attribute `scale_weight`."""
    is_scale = "_attention_mechanisms/" in name and last(name) == "scale_weight"
    return name.removesuffix("scale_weight") + "attention_g" if is_scale else name


def copied(variable, name):
    """A variable that is one array of the source."""
    return Part(variable, {name: tuple(variable.shape)}, lambda array: array)


def side_by_side(kernels, units):
    """One kernel for [context_0; context_1; ..; output], from those for [output; context_i]; output is `units` wide."""
    contexts = [kernel[units:] for kernel in kernels]
    columns = np.cumsum([0, *(kernel.shape[1] for kernel in kernels)])
    rows = np.cumsum([0, *(context.shape[0] for context in contexts)])
    both = np.zeros((rows[-1] + units, columns[-1]), dtype="float32")
    for index, (kernel, context) in enumerate(zip(kernels, contexts, strict=True)):
        both[rows[index] : rows[index + 1], columns[index] : columns[index + 1]] = context
        both[rows[-1] :, columns[index] : columns[index + 1]] = kernel[:units]
    return both


def in_order(found, wanted):
    """Gives each wanted name the first name of the source not yet given away that ends alike.

    Returns: dict from the wanted names to those of the source, and a list of those left over.
    """
    left, given = list(found), {}
    for name in wanted:
        alike = next((one for one in left if last(one) == last(name)), None)
        if alike is not None:
            left.remove(alike)
            given[name] = found[alike]
    return given, left


def last(name):
    """The last part of a name."""
    return name.rpartition("/")[2]


def without_group(name):
    """The name of a weight in an HDF5 file without that of the group."""
    return name.partition("/")[2]


def name_of(activation):
    """An activation as one writes it: a name, or None for none."""
    return None if activation == keras.activations.linear else keras.activations.serialize(activation)


def listed(names, most=20):
    """Names for a message: not all of a long list."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"
