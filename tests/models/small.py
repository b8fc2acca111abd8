"""Small `Seq2Seq` models with random weights, and batches of ids for them."""

from functools import cache

import numpy as np
import pytest
from keras import ops

from keras_seqattn.models import Seq2Seq

# Different primes: a swapped axis cannot pass. M is the width of the embeddings, C and V are the vocabularies.
B, T, S, M, U, V, C = 3, 5, 7, 11, 13, 17, 19
START, END = 1, 2

# Every cell, attention, order and depth, with and without input feeding, and each pair of them at least once or twice.
SETTINGS = [
    {"cell": "lstm", "attention": "general", "attend": "after", "input_feeding": True, "num_layers": 1},
    {"cell": "gru", "attention": "bahdanau", "attend": "before", "input_feeding": False, "num_layers": 1},
    {"cell": "elman", "attention": "dot", "attend": "after", "input_feeding": False, "num_layers": 2},
    {"cell": "lstm", "attention": "concat", "attend": "before", "input_feeding": True, "num_layers": 2},
    {"cell": "gru", "attention": "general", "attend": "before", "input_feeding": True, "num_layers": 2},
    {"cell": "elman", "attention": "bahdanau", "attend": "after", "input_feeding": True, "num_layers": 1},
    {"cell": "lstm", "attention": "dot", "attend": "before", "input_feeding": False, "num_layers": 1},
    {"cell": "gru", "attention": "concat", "attend": "after", "input_feeding": False, "num_layers": 2},
    {"cell": "gru", "attention": "normalized_bahdanau", "attend": "before", "input_feeding": True, "num_layers": 1},
    {"cell": "gru", "attention": "location", "attend": "after", "input_feeding": False, "num_layers": 1},
    {"cell": "gru", "attention": "local-m", "attend": "after", "input_feeding": True, "num_layers": 1, "window": 2},
    {"cell": "lstm", "attention": "local-p", "attend": "before", "input_feeding": True, "num_layers": 1, "window": 2},
    {"cell": "gru", "attention": "monotonic", "attend": "after", "input_feeding": True, "num_layers": 2},
    {
        "cell": "elman",
        "attention": "location_sensitive",
        "attend": "before",
        "input_feeding": False,
        "num_layers": 1,
        "location_filters": 3,
        "location_kernel_size": 5,
    },
]
NAMES = ["-".join(map(str, settings.values())) for settings in SETTINGS]
# One model of each attention.
ATTENTIONS = list({settings["attention"]: settings for settings in SETTINGS}.values())
EVERY_ATTENTION = pytest.mark.parametrize("settings", ATTENTIONS, ids=lambda settings: settings["attention"])
EVERY_SETTING = pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
SOME_SETTINGS = pytest.mark.parametrize("settings", SETTINGS[:4], ids=NAMES[:4])


def small_model(rng, **settings):
    """A model whose every weight is random, biases included, so that none of them can be left out unseen."""
    model = Seq2Seq(V, C, units=U, embedding_dim=M, **settings)
    for weight in model.trainable_variables:
        weight.assign(0.5 * rng.normal(size=weight.shape))
    return model


@cache
def known_model(**settings):
    """`small_model`, built once for all tests that only read it."""
    return small_model(np.random.default_rng(1), **settings)


def random_ids(rng, rows, steps, vocabulary, lengths=None):
    """(B, T) int32 without padding, or with padding behind the given lengths."""
    ids = rng.integers(3, vocabulary, size=(rows, steps)).astype("int32")
    return ids if lengths is None else np.where(np.arange(steps) < np.array(lengths)[:, None], ids, 0)


def sources(rng):
    """(B, S) int32, the first row full."""
    return random_ids(rng, B, S, V, [S, 2, 5])


def targets(rng):
    """(B, T) int32, each beginning with the start token."""
    ids = random_ids(rng, B, T, C)
    ids[:, 0] = START
    return ids


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def logits(model, source, target):
    return numpy(model({"source": source, "target": target}))


def shifted(ids):
    """What the model has read when it writes each of `ids` (B, T): the start token, then the ids before."""
    return np.concatenate([np.full((len(ids), 1), START, "int32"), ids[:, :-1]], axis=1)


def written(decoded):
    """(B, T) bool: the steps that wrote something, the end token included."""
    return np.arange(decoded.ids.shape[1]) <= numpy(decoded.lengths)[:, None]


def log_softmax(x):
    x = x.astype("float64")
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
