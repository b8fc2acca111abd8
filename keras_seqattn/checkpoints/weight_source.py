"""Weights by name, as Keras 2 and TensorFlow have written them: checkpoints, HDF5 files, or arrays in a dict."""

import os
from pathlib import Path

import numpy as np

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# In a SavedModel, each layer of Keras also lists its variables, under names that do not tell which is which.
KERAS_LISTS = ("keras_api", "layers", "non_trainable_variables", "trainable_variables", "variables")


class WeightSource:
    """Arrays in a dict, by names such as "decoder/cell/kernel"; the other sources present themselves in the same way.

    `in_order` tells what a name below a layer's path is worth. Where it is False, the name is that of the attribute,
    and says which weight this is. Where it is True, the name comes from the scope in which the layer was first called;
    only its last part and its place in the order count.
    """

    in_order = False

    def __init__(self, arrays):
        self.arrays = {name.removesuffix(VALUE): array for name, array in arrays.items()}

    def read(self, key):
        """The array stored under a key that `below` gave."""
        return np.asarray(self.arrays[key])

    def below(self, path=""):
        """The weights below a path: from the name relative to it to the key under which the array is stored."""
        start = f"{path.strip('/')}/" if path.strip("/") else ""
        return {key[len(start) :]: key for key in self.every_key() if key.startswith(start)}

    def every_key(self):
        """Every key."""
        return list(self.arrays)


class CheckpointSource(WeightSource):
    """A TensorFlow checkpoint.

    It stores each variable once, below the shortest of the paths that lead to it, and beside the variables the graph of
    objects. That graph is walked here, so that any path finds them: a wrapper's cell may have been saved below another
    attribute of the model.
    """

    def __init__(self, prefix):
        import tensorflow as tf
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

        self.reader = tf.train.load_checkpoint(prefix)
        self.stored = {
            key.removesuffix(VALUE): key
            for key in sorted(self.reader.get_variable_to_shape_map())
            if key != OBJECT_GRAPH and "/.OPTIMIZER_SLOT/" not in key
        }
        self.nodes = []
        if self.reader.has_tensor(OBJECT_GRAPH):
            self.nodes = TrackableObjectGraph.FromString(self.reader.get_tensor(OBJECT_GRAPH)).nodes

    def every_key(self):
        return list(self.stored)

    def read(self, key):
        return self.reader.get_tensor(self.stored[key])

    def below(self, path=""):
        node = 0 if self.nodes else None
        for part in filter(None, path.split("/")):
            node = None if node is None else self._children(node).get(part)
        if node is None:
            return super().below(path)  # what TensorFlow 1 saved has no graph of objects
        found, seen, queue, later = {}, set(), [("", node)], []
        while queue or later:  # breadth first: the shortest name below the path
            name, node = (queue or later).pop(0)
            if node in seen:
                continue
            seen.add(node)
            for attribute in self.nodes[node].attributes:
                key = attribute.checkpoint_key.removesuffix(VALUE)
                if attribute.name == "VARIABLE_VALUE" and key in self.stored:
                    found[name] = key
            for part, child in self._children(node).items():
                (later if part in KERAS_LISTS else queue).append((f"{name}/{part}" if name else part, child))
        return found

    def _children(self, node):
        return {child.local_name: child.node_id for child in self.nodes[node].children}


class HDF5Source(WeightSource):
    """The weights of a model in the HDF5 format of Keras 2: a group for each layer, in it the weights in order.

    A weight that several layers hold stands in each one's group.
    """

    in_order = True

    def __init__(self, path):
        import h5py

        self.arrays = {}
        with h5py.File(path, "r") as file:
            groups = file.get("model_weights", file)  # there where the whole model was saved
            if "layer_names" not in groups.attrs:
                raise ValueError(
                    "An HDF5 `source` must be in the format of Keras 2, with `layer_names`. Files that end in "
                    "`.weights.h5` are not: load them where they were made, and save the model with "
                    f"`tf.train.Checkpoint`. Received: source={str(path)!r}."
                )
            for group in map(as_text, groups.attrs["layer_names"]):
                for name in map(as_text, groups[group].attrs["weight_names"]):
                    self.arrays[f"{group}/{name.removesuffix(':0')}"] = groups[group][name][()]


def as_text(name):
    """h5py gives names as bytes or as text."""
    return name.decode() if isinstance(name, bytes) else str(name)


def open_source(source):
    """The weights in a checkpoint (its prefix, or a folder: the latest in it), in an HDF5 file, or in a dict."""
    if isinstance(source, dict):
        return WeightSource(source)
    if not isinstance(source, str | os.PathLike):
        raise ValueError(f"`source` must be a path or a dict of arrays by name. Received: {source=}.")
    path = Path(source)
    if path.is_file() and path.read_bytes()[:8] == b"\x89HDF\r\n\x1a\n":
        return HDF5Source(path)
    prefix = latest(path) if path.is_dir() else path.with_suffix("") if path.suffix == ".index" else path
    if prefix is None or not prefix.with_name(f"{prefix.name}.index").is_file():
        raise ValueError(
            "`source` must be the prefix of a TensorFlow checkpoint (a file `<prefix>.index` lies there), a folder "
            f"with one, or an HDF5 file of weights. Received: source={str(source)!r}."
        )
    return CheckpointSource(str(prefix))


def latest(folder):
    """The prefix of a folder's latest checkpoint, or of the only one in it."""
    import tensorflow as tf

    noted = tf.train.latest_checkpoint(folder)
    if noted is not None:
        return Path(noted)
    prefixes = list(folder.glob("*.index"))
    return prefixes[0].with_suffix("") if len(prefixes) == 1 else None
