"""Every public layer, in the settings that change what it computes, with arguments to call it with."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_seqattn import layers
from tests.reference.arrays import B, D, S, T, U, V

A = 17  # width of an attention vector
MASK = np.array([[1, 0, 1], [1, 1, 0]], bool)  # (B, T)
MEMORY_MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)  # (B, S)
ATTENTION_MASK = np.random.default_rng(0).random((B, T, S)) < 0.7  # (B, T, S)
SEQUENCE = {"inputs": (B, T, D), "mask": MASK}
ATTENDING = {**SEQUENCE, "memory": (B, S, V), "memory_mask": MEMORY_MASK}
READING = {"query": (B, T, D), "value": (B, S, V), "query_mask": MASK, "value_mask": MEMORY_MASK}


@dataclass(frozen=True)
class Case:
    """A layer with its settings and inputs, as `check_layer` takes them."""

    name: str
    make: Any
    inputs: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


def luong_cell(**options):
    return layers.AttentionCell(layers.LSTMCell(U), layers.LuongAttention("general"), attention_units=A, **options)


def bahdanau_cell(**options):
    options = {"attend": "before", "input_feeding": False, **options}
    return layers.AttentionCell(layers.GRUCell(U), layers.BahdanauAttention(D), **options)


CASES = [
    Case("ElmanCell", lambda: layers.ElmanCell(U), {"inputs": (B, D), "states": [(B, U)]}),
    Case("GRUCell", lambda: layers.GRUCell(U), {"inputs": (B, D), "states": [(B, U)]}),
    Case(
        "GRUCell-as_in_the_paper",
        lambda: layers.GRUCell(U, "relu", "hard_sigmoid", use_bias=False, reset_after=False),
        {"inputs": (B, D), "states": [(B, U)]},
    ),
    Case("LSTMCell", lambda: layers.LSTMCell(U), {"inputs": (B, D), "states": [(B, U), (B, U)]}),
    Case(
        "LSTMCell-settings",
        lambda: layers.LSTMCell(U, kernel_initializer="he_normal", bias_initializer="ones", unit_forget_bias=False),
        {"inputs": (B, D), "states": [(B, U), (B, U)]},
    ),
    Case(
        "StackedCells",
        lambda: layers.StackedCells([layers.LSTMCell(U), keras.layers.GRUCell(V)]),
        {"inputs": (B, D), "states": [[(B, U), (B, U)], [(B, V)]]},
    ),
    Case(
        "AttentionCell-luong",
        luong_cell,
        {
            "inputs": (B, D),
            "states": [[(B, U), (B, U)], (B, A)],
            "memory": (B, S, V),
            "memory_mask": MEMORY_MASK,
        },
    ),
    Case(
        "AttentionCell-bahdanau",
        bahdanau_cell,
        {"inputs": (B, D), "states": [[(B, U)]], "memory": (B, S, V), "memory_mask": MEMORY_MASK},
    ),
    Case("Recurrent", lambda: layers.Recurrent(layers.ElmanCell(U)), {"inputs": (B, T, D)}),
    Case(
        "Recurrent-every_result",
        lambda: layers.Recurrent(
            layers.LSTMCell(U), return_sequences=True, return_state=True, return_trace=True, go_backwards=True
        ),
        {**SEQUENCE, "initial_state": [(B, U), (B, U)]},
    ),
    Case(
        "Recurrent-cell_of_keras",
        lambda: layers.Recurrent(
            keras.layers.GRUCell(U, dropout=0.1), return_sequences=True, zero_output_for_mask=True
        ),
        SEQUENCE,
        # In training, each run draws a dropout mask of its own.
        {"skip": ["keras_file"]},
    ),
    Case(
        "Recurrent-stateful",
        lambda: layers.Recurrent(layers.GRUCell(U), return_state=True, stateful=True),
        SEQUENCE,
        {"dynamic": None},  # a state belongs to a row: the batch size is fixed
    ),
    Case(
        "Recurrent-stacked",
        lambda: layers.Recurrent(layers.StackedCells([layers.GRUCell(U), layers.LSTMCell(V)]), return_trace=True),
        SEQUENCE,
    ),
    Case(
        "Recurrent-luong",
        lambda: layers.Recurrent(luong_cell(), return_sequences=True, return_trace=True),
        ATTENDING,
    ),
    Case(
        "Recurrent-luong_at_once",
        lambda: layers.Recurrent(luong_cell(input_feeding=False), return_sequences=True, return_trace=True),
        ATTENDING,
    ),
    Case("Recurrent-bahdanau", lambda: layers.Recurrent(bahdanau_cell(), return_state=True), ATTENDING),
    Case(
        "Bidirectional",
        lambda: layers.Bidirectional(layers.Recurrent(layers.GRUCell(U), return_sequences=True)),
        SEQUENCE,
    ),
    Case(
        "Bidirectional-apart",
        lambda: layers.Bidirectional(
            layers.Recurrent(bahdanau_cell(), return_sequences=True, return_state=True, return_trace=True),
            merge_mode=None,
        ),
        ATTENDING,
    ),
    Case("BahdanauAttention", lambda: layers.BahdanauAttention(U), READING),
    Case(
        "BahdanauAttention-scores",
        lambda: layers.BahdanauAttention(U, kernel_initializer="he_normal"),
        {**READING, "key": (B, S, 5), "attention_mask": ATTENTION_MASK, "return_attention_scores": True},
    ),
    Case("LuongAttention-dot", lambda: layers.LuongAttention("dot"), {**READING, "query": (B, T, V)}),
    Case("LuongAttention-general", lambda: layers.LuongAttention("general"), READING),
    Case(
        "LuongAttention-concat",
        lambda: layers.LuongAttention("concat", units=U),
        {**READING, "return_attention_scores": True},
    ),
]
