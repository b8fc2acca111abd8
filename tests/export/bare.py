"""Run by itself, as `python -I bare.py VERSION...`: what a program sees that has tensorflow and tensorflow_text only.

Reads {"texts": [base64, ...]} from standard input, and writes for each version its answers and the ops of its graph.
"""

import base64
import json
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry


def ops_of(version):
    """Names of all ops, those of the function library included, and those among them that nothing registers."""
    proto = saved_model_pb2.SavedModel()
    with open(f"{version}/saved_model.pb", "rb") as file:
        proto.ParseFromString(file.read())
    (graph,) = (meta_graph.graph_def for meta_graph in proto.meta_graphs)
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    ops = {node.op for node in nodes} - functions
    return {"ops": sorted(ops), "unregistered": sorted(op for op in ops if op_def_registry.get(op) is None)}


def plain(value):
    """A tensor as JSON can hold it."""
    array = value.numpy()
    if array.dtype == object:
        return [[base64.b64encode(text).decode() for text in row] if array.ndim > 1 else base64.b64encode(row).decode()
                for row in array]  # fmt: skip
    return array.tolist()


def packages():
    """The packages that are loaded."""
    return {name.partition(".")[0] for name in sys.modules}


if __name__ == "__main__":
    before = packages() - {"keras_seqattn"}  # tensorflow_text itself loads Keras, which may then be there
    texts = [base64.b64decode(text) for text in json.load(sys.stdin)["texts"]]
    found = {}
    for version in sys.argv[1:]:
        signatures = tf.saved_model.load(version).signatures
        answers = {
            name: {output: plain(value) for output, value in signature(text=tf.constant(texts)).items()}
            for name, signature in signatures.items()
            if name.startswith("serving")
        }
        found[version] = {"answers": answers, **ops_of(version)}
    json.dump({"versions": found, "loaded": sorted(packages() - before)}, sys.stdout)
