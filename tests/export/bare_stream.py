"""Run by itself, as `python -I bare_stream.py VERSION...`: streams with tensorflow and tensorflow_text only.

Reads {"texts": [base64, ...], "extra_steps": 2} from standard input, and writes for each version what each of its steps
gave, with the state's shapes, and how the state changed after the end.
"""

import base64
import json
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401

TOLD = ("piece", "token_id", "ended", "finished")


def told(found):
    """What a step tells, as JSON can hold it."""
    plain = {name: found[name].numpy().tolist() for name in TOLD}
    return {**plain, "piece": [base64.b64encode(piece).decode() for piece in plain["piece"]]}


before = {name.partition(".")[0] for name in sys.modules} - {"keras_seqattn"}
asked = json.load(sys.stdin)
texts = tf.constant([base64.b64decode(text) for text in asked["texts"]])
versions = {}
for version in sys.argv[1:]:
    signatures = tf.saved_model.load(version).signatures
    (name,) = signatures["serving_default"].structured_input_signature[1]
    whole = signatures["serving_default"](texts)
    whole = whole["text" if name == "prompt" else "answer"].numpy()
    names = list(signatures["step"].structured_input_signature[1])
    tensors = dict(signatures["init"](texts))
    steps, shapes = [told(tensors)], []
    while not tf.reduce_all(tensors["finished"]):
        tensors |= signatures["step"](**{name: tensors[name] for name in names})
        steps.append(told(tensors))
        shapes.append({name: tensors[name].shape.as_list() for name in names})
    state, after = {name: tensors[name].numpy().tolist() for name in names}, []
    for _ in range(asked["extra_steps"]):
        tensors |= signatures["step"](**{name: tensors[name] for name in names})
        after.append(told(tensors))
    versions[version] = {
        "whole": [base64.b64encode(text).decode() for text in whole],
        "steps": steps,
        "one_shape": all(one == shapes[0] for one in shapes),
        "after": after,
        "unchanged": state == {name: tensors[name].numpy().tolist() for name in names},
    }
loaded = sorted({name.partition(".")[0] for name in sys.modules} - before)
json.dump({"versions": versions, "loaded": loaded}, sys.stdout)
