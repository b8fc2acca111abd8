"""Every public layer, in the settings that change what it computes, with arguments to call it with."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_seqattn import layers
from keras_seqattn.schedules import InverseSigmoidDecay
from tests.reference.arrays import B, D, S, T, U, V

A = 17  # width of an attention vector
WORDS = 19
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


def cell_with(attention, **options):
    return layers.AttentionCell(layers.GRUCell(U), attention, attention_units=A, **options)


def reading_two():
    """One attention that remembers, and one that does not, each with a memory of its own."""
    return cell_with([layers.LocationSensitiveAttention(D, filters=2, kernel_size=3), layers.BahdanauAttention(3)])


READING_TWO = {**SEQUENCE, "memory": [(B, S, V), (B, T, 5)], "memory_mask": [MEMORY_MASK, MASK]}


def sampling_cell(cell, teacher_forcing=1.0):
    embedding, projection = keras.layers.Embedding(WORDS, D), keras.layers.Dense(WORDS)
    return layers.ScheduledSamplingCell(cell, embedding, projection, teacher_forcing, seed=3)


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
    Case(
        "BahdanauAttention-normalized",
        lambda: layers.BahdanauAttention(U, normalize=True),
        {**READING, "attention_mask": ATTENTION_MASK},
    ),
    Case(
        "LuongAttention-scaled", lambda: layers.LuongAttention("dot", use_scale=True), {**READING, "query": (B, T, V)}
    ),
    Case(
        "LuongAttention-location",
        lambda: layers.LuongAttention("location", max_steps=2 * S),
        {**READING, "attention_mask": ATTENTION_MASK, "return_attention_scores": True},
    ),
    Case(
        "LocalAttention-monotonic",
        lambda: layers.LocalAttention(window=1),
        {**READING, "attention_mask": ATTENTION_MASK, "return_attention_scores": True},
    ),
    Case(
        "LocalAttention-predictive",
        lambda: layers.LocalAttention("concat", window=3, alignment="predictive", units=U),
        {**READING, "key": (B, S, 5)},
    ),
    Case(
        "LocalAttention-of_an_attention",
        lambda: layers.LocalAttention(layers.LuongAttention("dot", use_scale=True), window=2),
        {**READING, "query": (B, T, V)},
    ),
    Case(
        "MonotonicAttention",
        lambda: layers.MonotonicAttention(units=U, noise=0, initial_score_bias=0.5),
        {**READING, "return_attention_scores": True},
    ),
    Case(
        "MonotonicAttention-expected",
        lambda: layers.MonotonicAttention(layers.BahdanauAttention(D), hard_inference=False, noise=0.5, seed=3),
        {**READING, "attention_mask": ATTENTION_MASK, "return_attention_scores": True},
    ),
    Case(
        "LocationSensitiveAttention",
        lambda: layers.LocationSensitiveAttention(U, filters=2, kernel_size=3),
        {**READING, "attention_mask": ATTENTION_MASK, "return_attention_scores": True},
    ),
    Case(
        "LocationSensitiveAttention-cumulative",
        lambda: layers.LocationSensitiveAttention(U, filters=3, kernel_size=5, cumulative=True),
        {**READING, "key": (B, S, 5)},
    ),
    Case("Recurrent-local", lambda: layers.Recurrent(cell_with(layers.LocalAttention(window=1))), ATTENDING),
    Case(
        "Recurrent-monotonic",
        lambda: layers.Recurrent(
            cell_with(layers.MonotonicAttention("general", noise=0), input_feeding=False), return_trace=True
        ),
        ATTENDING,
    ),
    Case(
        "Recurrent-location_sensitive",
        lambda: layers.Recurrent(
            cell_with(layers.LocationSensitiveAttention(D, filters=2, kernel_size=3), attend="before"),
            return_sequences=True,
            return_state=True,
        ),
        ATTENDING,
    ),
    Case("Recurrent-several_attentions", lambda: layers.Recurrent(reading_two(), return_trace=True), READING_TWO),
    Case(
        "AttentionCell-several",
        reading_two,
        {
            "inputs": (B, D),
            "states": [[(B, U)], (B, A), [np.ones((B, S), "float32")]],
            "memory": [(B, S, V), (B, T, 5)],
            "memory_mask": [MEMORY_MASK, MASK],
        },
        {"dynamic": "batch"},  # what is remembered is as long as the memory
    ),
    Case(
        "ElmanCell-settings",
        lambda: layers.ElmanCell(U, kernel_regularizer="l2", bias_constraint="non_neg", recurrent_dropout=0.2, seed=3),
        {"inputs": (B, D), "states": [(B, U)]},
    ),
    Case("JordanCell", lambda: layers.JordanCell(U), {"inputs": (B, D), "states": [(B, U)]}),
    Case(
        "JordanCell-settings",
        lambda: layers.JordanCell(U, V, output_activation="sigmoid", use_bias=False, zoneout=0.1, seed=3),
        {"inputs": (B, D), "states": [(B, V)]},
    ),
    Case(
        "GRUCell-options",
        lambda: layers.GRUCell(U, layer_norm=True, dropout=0.1, recurrent_dropout=0.1, zoneout=0.1, seed=3),
        {"inputs": (B, D), "states": [(B, U)]},
    ),
    Case(
        "GRUCell-layer_norm_as_in_the_paper",
        lambda: layers.GRUCell(U, layer_norm=True, reset_after=False),
        {"inputs": (B, D), "states": [(B, U)]},
    ),
    Case(
        "LSTMCell-options",
        lambda: layers.LSTMCell(U, peephole=True, layer_norm=True, dropout=0.1, recurrent_dropout=0.1, seed=3),
        {"inputs": (B, D), "states": [(B, U), (B, U)]},
    ),
    Case(
        "LSTMCell-coupled",
        lambda: layers.LSTMCell(U, coupled_gates=True, peephole=True, zoneout=0.1, cell_zoneout=0.2, seed=3),
        {"inputs": (B, D), "states": [(B, U), (B, U)]},
    ),
    Case(
        "ResidualCell",
        lambda: layers.ResidualCell(layers.LSTMCell(D)),
        {"inputs": (B, D), "states": [(B, D), (B, D)]},
    ),
    Case(
        "ResidualCell-of_an_attending_cell",
        lambda: layers.ResidualCell(luong_cell()),
        {"inputs": (B, A), "states": [[(B, U), (B, U)], (B, A)], "memory": (B, S, V), "memory_mask": MEMORY_MASK},
    ),
    Case(
        "DropoutCell",
        lambda: layers.DropoutCell(layers.GRUCell(U), 0.1, 0.2, 0.3, seed=3),
        {"inputs": (B, D), "states": [(B, U)]},
    ),
    Case(
        "DropoutCell-of_a_cell_of_keras",
        lambda: layers.DropoutCell(keras.layers.LSTMCell(U), output_dropout=0.3, seed=3),
        {"inputs": (B, D), "states": [(B, U), (B, U)]},
    ),
    Case(
        "Recurrent-dropout",
        lambda: layers.Recurrent(
            layers.LSTMCell(U, dropout=0.1, recurrent_dropout=0.1, zoneout=0.1, cell_zoneout=0.1, seed=3),
            return_sequences=True,
            go_backwards=True,
        ),
        SEQUENCE,
    ),
    Case(
        "Recurrent-wrapped",
        lambda: layers.Recurrent(
            layers.StackedCells(
                [
                    layers.DropoutCell(luong_cell(), 0.1, 0.1, 0.1, seed=3),
                    layers.ResidualCell(layers.JordanCell(U, A)),
                    layers.ResidualCell(
                        layers.AttentionCell(
                            layers.DropoutCell(keras.layers.GRUCell(U), 0.1, seed=5),
                            layers.BahdanauAttention(D),
                            attention_units=A,
                            attend="before",
                        )
                    ),
                ]
            ),
            return_sequences=True,
            return_trace=True,
        ),
        ATTENDING,
    ),
    Case(
        "ScheduledSamplingCell",
        lambda: sampling_cell(layers.GRUCell(U)),
        {"inputs": (B, D), "states": [[(B, U)], np.array([[0], [5]], "int32")]},
        # No gradient passes through the choice of a word, and this step is the last one; the word is one a row.
        {"gradients": False, "dynamic": "batch"},
    ),
    Case(
        "Recurrent-scheduled_sampling",
        lambda: layers.Recurrent(
            sampling_cell(luong_cell(), InverseSigmoidDecay(5.0)), return_sequences=True, return_state=True
        ),
        ATTENDING,
        {"gradients": False},
    ),
    # Without rotary positions, a bias of the keys moves all logits of a query alike: it has no gradient.
    Case("MultiHeadAttention", lambda: layers.MultiHeadAttention(4, 6, value_dim=3), READING, {"gradients": False}),
    Case(
        "MultiHeadAttention-settings",
        lambda: layers.MultiHeadAttention(
            4,
            6,
            dropout=0.1,
            use_bias=False,
            output_shape=(3, 5),
            num_kv_heads=2,
            sliding_window=4,
            use_gate=True,
            seed=3,
        ),
        {**READING, "key": (B, S, 5), "attention_mask": ATTENTION_MASK, "return_attention_scores": True},
    ),
    *(
        Case(
            f"MultiHeadAttention-{positions}",
            lambda positions=positions: layers.MultiHeadAttention(
                4, 6, use_bias=positions == "rotary", num_kv_heads=1, positions=positions
            ),
            {
                "query": (B, T, D),
                "value": (B, T, V),
                "query_mask": MASK,
                "value_mask": MASK,
                "use_causal_mask": True,
                "return_attention_scores": True,
                "score_rows": [0, -1],
            },
        )
        for positions in ("rotary", "alibi", "relative")
    ),
    Case(
        "FeedForward", lambda: layers.FeedForward(U, activation="gelu_tanh", dropout=0.1, seed=3), {"inputs": (B, T, D)}
    ),
    Case(
        "FeedForward-gated",
        lambda: layers.FeedForward(U, activation="silu", gated=True, use_bias=False),
        {"inputs": (B, T, D)},
    ),
    Case("SinusoidalPositions", lambda: layers.SinusoidalPositions(), {"inputs": (B, T, D)}),
    Case("LearnedPositions", lambda: layers.LearnedPositions(2 * T), {"inputs": (B, T, D)}),
    Case(
        "LearnedPositions-told",
        lambda: layers.LearnedPositions(9),
        {"inputs": (B, T, D), "positions": np.array([[0, 8, 2], [3, 3, 1]], "int32")},
    ),
    Case(
        "TokenEmbedding",
        lambda: layers.TokenEmbedding(WORDS, D, scale=True),
        {"inputs": np.array([[1, 18, 2], [3, 3, 0]], "int32")},
    ),
    Case(
        "TokenEmbedding-reverse",
        lambda: layers.TokenEmbedding(WORDS, D),
        {"inputs": (B, T, D), "reverse": True},
    ),
    # Without rotary positions, a bias of the keys moves all logits of a query alike: it has no gradient.
    Case(
        "TransformerEncoder",
        lambda: layers.TransformerEncoder(2, U, dropout=0.1, seed=3),
        {"inputs": (B, T, 2 * D), "mask": MASK},
        {"gradients": False},
    ),
    Case(
        "TransformerEncoder-settings",
        lambda: layers.TransformerEncoder(
            4,
            U,
            key_dim=6,
            num_kv_heads=2,
            positions="rotary",
            sliding_window=2,
            activation="silu",
            gated=True,
            normalize_first=True,
            normalization="rms",
            use_bias=False,
            attention_dropout=0.1,
            activation_dropout=0.1,
            rematerialize=True,
            seed=3,
        ),
        {
            "inputs": (B, T, D),
            "mask": MASK,
            "attention_mask": ATTENTION_MASK[:, :, :T],
            "use_causal_mask": True,
            "return_attention_scores": True,
            "score_rows": [0, -1],
        },
    ),
    Case(
        "TransformerDecoder",
        lambda: layers.TransformerDecoder(2, U, normalize_first=True, dropout=0.1, seed=3),
        {"inputs": (B, T, 2 * D), "memory": (B, S, V), "memory_mask": MEMORY_MASK},
        {"gradients": False},
    ),
    Case(
        "TransformerDecoder-without_memory",
        lambda: layers.TransformerDecoder(2, U, positions="alibi", use_bias=False, rematerialize=True),
        {"inputs": (B, T, 2 * D), "return_attention_scores": True},
    ),
    Case(
        "TransformerDecoder-scores",
        lambda: layers.TransformerDecoder(2, U, positions="relative", use_bias=False),
        {"inputs": (B, T, 2 * D), "memory": (B, S, V), "mask": MASK, "return_attention_scores": True},
    ),
]
