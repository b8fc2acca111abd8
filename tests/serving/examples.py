"""A model that reads serialized `tf.Example`s, as TensorFlow Serving's own half_plus_two does, and Examples for it."""

from pathlib import Path
from typing import Any

CLASSIFY, REGRESS, PREDICT = (f"tensorflow/serving/{name}" for name in ("classify", "regress", "predict"))


def example(**features: Any) -> Any:
    """A `tf.train.Example`; lists of floats, ints or bytes."""
    import tensorflow as tf

    made = tf.train.Example()
    for name, values in features.items():
        feature = made.features.feature[name]
        values = values if isinstance(values, list) else [values]
        if isinstance(values[0], float):
            feature.float_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(values)
    return made


def write_examples_model(folder: Path) -> Path:
    """Signatures over one placeholder: y = x / 2 + 2 of the float feature `x`, and the text feature `name`.

    `classify` gives two classes an example, `name` with score y and `other` with -y; `regress` gives y as (N, 1).
    The others are what servers must refuse, or take in another form.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    graph = tf.Graph()
    with graph.as_default():
        serialized = tf.compat.v1.placeholder(tf.string, [None], name="serialized")
        second = tf.compat.v1.placeholder(tf.string, [None], name="second")
        vector = tf.compat.v1.placeholder(tf.float32, [None], name="vector")
        parsed = tf.io.parse_example(
            serialized,
            {"x": tf.io.FixedLenFeature([], tf.float32), "name": tf.io.FixedLenFeature([], tf.string, "")},
        )
        y = parsed["x"] * 0.5 + 2.0
        classes = tf.stack([parsed["name"], tf.fill(tf.shape(parsed["name"]), "other")], axis=1)
        scores = tf.stack([y, -y], axis=1)
        signatures = {
            "serving_default": (REGRESS, {"inputs": serialized}, {"outputs": y[:, None]}),
            "classify": (CLASSIFY, {"inputs": serialized}, {"classes": classes, "scores": scores}),
            "classes_only": (CLASSIFY, {"inputs": serialized}, {"classes": classes}),
            "scores_only": ("", {"inputs": serialized}, {"scores": scores}),
            "scores_and_more": (CLASSIFY, {"inputs": serialized}, {"scores": scores, "more": y}),
            "regress": (REGRESS, {"inputs": serialized}, {"outputs": y[:, None]}),
            "regress_flat": ("", {"inputs": serialized}, {"outputs": y}),
            "examples": (PREDICT, {"examples": serialized}, {"y": y}),
            "by_vector": (PREDICT, {"inputs": vector}, {"outputs": tf.identity(vector)}),
            "by_second": (REGRESS, {"inputs": second}, {"outputs": tf.cast(tf.strings.length(second), tf.float32)}),
            "no_input": (PREDICT, {}, {"scores": tf.constant([[1.0]]), "outputs": tf.constant([1.0])}),
            "two_inputs": (PREDICT, {"inputs": serialized, "second": second}, {"outputs": y, "scores": scores}),
            "other_input": (PREDICT, {"x": serialized}, {"outputs": y}),
            "other_input_of_classes": (PREDICT, {"x": serialized}, {"scores": scores}),
            "other_output": (PREDICT, {"inputs": serialized}, {"y": y}),
            "three_outputs": (PREDICT, {"inputs": serialized}, {"classes": classes, "scores": scores, "y": y}),
            "flat_scores": (CLASSIFY, {"inputs": serialized}, {"scores": y}),
            "double_scores": (CLASSIFY, {"inputs": serialized}, {"scores": tf.cast(scores, tf.float64)}),
            "numbers_as_classes": (CLASSIFY, {"inputs": serialized}, {"classes": scores}),
            "one_row_of_scores": (CLASSIFY, {"inputs": serialized}, {"scores": tf.constant([[1.0, 2.0]])}),
            "uneven": (CLASSIFY, {"inputs": serialized}, {"classes": classes, "scores": scores[:, :1]}),
            "wide": (REGRESS, {"inputs": serialized}, {"outputs": scores}),
            "one_output": (REGRESS, {"inputs": serialized}, {"outputs": tf.constant([1.0])}),
            "double": (REGRESS, {"inputs": serialized}, {"outputs": tf.cast(y, tf.float64)}),
            "odd": (
                CLASSIFY,
                {"inputs": serialized},
                {
                    "classes": tf.fill([tf.shape(y)[0], 4], '"\\é'.encode()),
                    "scores": tf.fill([tf.shape(y)[0], 1], 1.0) * [float("nan"), float("inf"), -float("inf"), 1 / 3],
                },
            ),
        }
        saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        meta_graph = saved.meta_graphs.add()
        meta_graph.meta_info_def.tags.append("serve")
        meta_graph.graph_def.CopyFrom(graph.as_graph_def())
        for name, (method, inputs, outputs) in signatures.items():
            proto = meta_graph.signature_def[name]
            proto.method_name = method
            for infos, tensors in ((proto.inputs, inputs), (proto.outputs, outputs)):
                for key, tensor in tensors.items():
                    infos[key].CopyFrom(tf.compat.v1.saved_model.build_tensor_info(tensor))
        default = meta_graph.signature_def["with_default"]
        default.CopyFrom(meta_graph.signature_def["two_inputs"])
        default.defaults["second"].CopyFrom(tf.make_tensor_proto(["a"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder
