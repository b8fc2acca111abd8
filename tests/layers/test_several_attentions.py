"""Several attentions in one cell: side by side over one memory, or each over its own."""

import json

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.decoding import Beam, Greedy
from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    GRUCell,
    LocalAttention,
    LocationSensitiveAttention,
    LuongAttention,
    MonotonicAttention,
    Recurrent,
    StackedCells,
)
from tests.layers.paper_weights import numpy, randomize
from tests.reference.arrays import B, D, S, T, U, V, normal

A, N, M = 17, 4, 19  # width of an attention vector; steps and width of a second memory
MASK = np.array([[1, 0, 1], [0, 1, 0]], bool)
MEMORY_MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], bool)
OTHER_MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)
FLAGS = {"return_sequences": True, "return_state": True, "return_trace": True}
MODES = pytest.mark.parametrize(
    ("attend", "input_feeding"), [("after", True), ("after", False), ("before", True), ("before", False)]
)


def mixed():
    """Some that remember, in different ways, and some that do not."""
    return [
        BahdanauAttention(U),
        LocationSensitiveAttention(D, filters=2, kernel_size=3),
        LuongAttention("general"),
        LocalAttention("general", window=1),
        MonotonicAttention(units=U, initial_score_bias=0.5),
    ]


def memories(rng):
    """Of two lengths and widths, one for each of `mixed`."""
    short, long = normal(rng, B, N, M), normal(rng, B, S, V)
    return [long, short, short, long, short], [MEMORY_MASK, OTHER_MASK, None, None, OTHER_MASK]


def made(rng, **options):
    cell, inputs, (memory, masks) = AttentionCell(GRUCell(U), mixed(), **options), normal(rng, B, T, D), memories(rng)
    Recurrent(cell)(inputs, memory=memory, memory_mask=masks)
    return randomize(cell, rng), inputs, memory, masks


def close(actual, expected, rtol=1e-4, atol=1e-5):
    for a, b in zip(tree.flatten(actual), tree.flatten(expected), strict=True):
        np.testing.assert_allclose(numpy(a), numpy(b), rtol=rtol, atol=atol)


@MODES
def test_each_finds_what_it_finds_alone_for_the_same_queries(rng, attend, input_feeding):
    cell, inputs, memory, masks = made(rng, attend=attend, input_feeding=input_feeding)
    vectors, *_, trace = Recurrent(cell, **FLAGS)(inputs, memory=memory, memory_mask=masks)
    outputs, start = numpy(vectors)[..., -U:], 0
    queries = outputs
    if attend == "before":
        queries = np.concatenate([np.zeros((B, 1, U), "float32"), outputs[:, :-1]], axis=1)
    for index, (attention, read, mask) in enumerate(zip(cell.attentions, memory, masks, strict=True)):
        context, scores = attention(queries, read, value_mask=mask, return_attention_scores=True)
        close(vectors[..., start : start + read.shape[-1]], context)
        close(trace[f"attention_scores_{index}"], scores)
        start += read.shape[-1]
    assert start + U == vectors.shape[-1] == cell.output_size
    assert "attention_scores" not in trace


@MODES
def test_one_memory_for_all_is_a_list_of_the_same(rng, attend, input_feeding):
    options = {"attend": attend, "input_feeding": input_feeding, "attention_units": A}
    cell, inputs, memory = AttentionCell(GRUCell(U), mixed(), **options), normal(rng, B, T, D), normal(rng, B, S, V)
    layer = Recurrent(cell, **FLAGS)
    layer(inputs, memory=memory)
    randomize(cell, rng)
    shared = layer(inputs, memory=memory, memory_mask=MEMORY_MASK)
    close(layer(inputs, memory=[memory] * 5, memory_mask=[MEMORY_MASK] * 5), shared)
    close(layer(inputs, memory=memory, memory_mask=[MEMORY_MASK] * 5), shared)
    close(layer(inputs, memory=memory, memory_mask=[None] * 5), layer(inputs, memory=memory))


def test_a_list_of_one_is_the_attention_itself(rng):
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    layers = [
        Recurrent(AttentionCell(GRUCell(U), attention, attention_units=A), **FLAGS)
        for attention in (LuongAttention("general"), [LuongAttention("general")])
    ]
    first, second = (layer(inputs, memory=memory) for layer in layers)
    assert first[-1].keys() == second[-1].keys()
    layers[1].set_weights(layers[0].get_weights())
    expected = layers[0](inputs, memory=memory, memory_mask=MEMORY_MASK)
    close(layers[1](inputs, memory=[memory], memory_mask=[MEMORY_MASK]), expected)


@MODES
def test_masked_steps_are_as_good_as_gone(rng, attend, input_feeding):
    cell, inputs, memory, masks = made(rng, attend=attend, input_feeding=input_feeding, attention_units=A)
    layer = Recurrent(cell, return_sequences=True)
    masked = numpy(layer(inputs, mask=MASK, memory=memory, memory_mask=masks))
    for row in range(B):
        rows = slice(row, row + 1)
        kept = [x[rows] if mask is None else x[rows, mask[row]] for x, mask in zip(memory, masks, strict=True)]
        close(layer(inputs[rows, MASK[row]], memory=kept), masked[rows, MASK[row]])


@MODES
def test_steps_one_by_one_equal_the_sequence(rng, attend, input_feeding):
    cell, inputs, memory, masks = made(rng, attend=attend, input_feeding=input_feeding, attention_units=A)
    layer = Recurrent(cell, return_sequences=True, return_state=True)
    sequence, *last = layer(inputs, memory=memory, memory_mask=masks)
    states = cell.get_initial_state(batch_size=B)
    for t in range(T):
        output, states = cell(inputs[:, t], states, memory=memory, memory_mask=masks)
        close(output, numpy(sequence)[:, t])
    close(states, last)
    # The cell's own; a vector to feed; one list for each of the three that remember.
    assert len(states) == 1 + input_feeding + 3


def test_beams_share_the_rows_of_every_memory(rng):
    beams = 3
    cell, _, memory, masks = made(rng, attention_units=A)
    repeated = [np.repeat(x, beams, axis=0) for x in memory]
    repeated_masks = [None if x is None else np.repeat(x, beams, axis=0) for x in masks]
    shared = alone = cell.get_initial_state(batch_size=B * beams)
    for _ in range(3):
        inputs = normal(rng, B * beams, D)
        output, shared = cell(inputs, shared, memory, masks)
        expected, alone = cell(inputs, alone, repeated, repeated_masks)
        close([output, shared], [expected, alone])


@pytest.mark.parametrize("decoder", [Greedy(), Beam(3)], ids=["greedy", "beam"])
def test_a_decoder_writes_what_the_sequence_layer_reads_again(rng, decoder):
    end, length, classes = 0, 6, 11
    cell, _, memory, masks = made(rng, attention_units=A)
    embedding, projection = normal(rng, classes, D), 2 * normal(rng, A, classes)
    prepared = cell.prepare_memory(memory, masks)
    zeros = cell.get_initial_state(batch_size=B, memory=prepared)

    def step(ids, states, time):
        nested = tree.pack_sequence_as(zeros, states)
        vector, nested, trace = cell.one_step(ops.take(embedding, ids, axis=0), nested, prepared)
        return ops.matmul(vector, projection), tree.flatten(nested), trace["attention_scores_4"]

    found = decoder(step, tree.flatten(zeros), ops.full((B,), 3, "int32"), length, end)
    ids = numpy(found.ids)
    read = np.concatenate([np.full((B, 1), 3), ids[:, :-1]], axis=1)
    layer = Recurrent(cell, return_sequences=True, return_trace=True)
    vectors, trace = layer(embedding[read], memory=memory, memory_mask=masks)
    log_probs = numpy(ops.log_softmax(ops.matmul(vectors, projection)))
    for row, written in enumerate(numpy(found.lengths)):
        tokens = [*ids[row, :written], *([end] if written < length else [])]
        score = sum(log_probs[row, t, token] for t, token in enumerate(tokens))
        np.testing.assert_allclose(numpy(found.scores)[row], score, rtol=1e-4)
        steps = slice(0, len(tokens))
        close(found.attention[row, steps], trace["attention_scores_4"][row, steps])


@pytest.mark.parametrize("mixed_in", ["below", "on_top"])
def test_they_stack(rng, mixed_in):
    cell, inputs, memory, masks = made(rng, attention_units=D)
    other = GRUCell(D)
    cells = [cell, other] if mixed_in == "below" else [other, cell]
    both, given = Recurrent(StackedCells(cells), return_sequences=True), {"memory": memory, "memory_mask": masks}
    stacked = both(inputs, mask=MASK, **given)
    x = inputs
    for one in cells:
        x = Recurrent(one, return_sequences=True)(x, mask=MASK, **(given if one is cell else {}))
    close(stacked, x)


def test_a_model_with_open_lengths_comes_back_from_its_config_and_its_file(rng, tmp_path):
    _, (memory, _) = normal(rng, B, T, D), memories(rng)
    inputs = keras.Input((None, D))
    sources = [keras.Input((None, x.shape[-1])) for x in memory]
    masks = [keras.Input((None,), dtype="bool"), None, None, keras.Input((None,), dtype="bool"), None]
    layer = Recurrent(AttentionCell(GRUCell(U), mixed(), attention_units=A), **FLAGS)
    outputs = layer(inputs, memory=sources, memory_mask=masks)
    model = keras.Model([inputs, *sources, *(x for x in masks if x is not None)], tree.flatten(outputs))
    randomize(model, rng)
    given = [normal(rng, B, T, D), *memory, MEMORY_MASK, MEMORY_MASK]
    expected = model(given)
    for known, output in zip(model.outputs, expected, strict=True):
        assert len(known.shape) == len(output.shape)
        assert all(a in (None, b) for a, b in zip(known.shape, output.shape, strict=True))
        assert known.dtype == keras.backend.standardize_dtype(output.dtype)
    again = keras.Model.from_config(json.loads(json.dumps(model.get_config())))
    again.set_weights(model.get_weights())
    close(again(given), expected)
    model.save(tmp_path / "model.keras")
    close(keras.models.load_model(tmp_path / "model.keras")(given), expected)


def test_masks_that_the_memories_carry_are_their_masks(rng):
    cell, inputs, memory, _ = made(rng, attention_units=A)
    layer = Recurrent(cell)
    masks = [MEMORY_MASK, OTHER_MASK, OTHER_MASK, MEMORY_MASK, None]
    carried = [
        x if mask is None else keras.layers.Masking()(np.where(mask[:, :, None], x, 0))
        for x, mask in zip(memory, masks, strict=True)
    ]
    close(layer(inputs, memory=carried), layer(inputs, memory=memory, memory_mask=masks))


def test_lists_that_are_not_as_long_as_the_attentions_raise(rng):
    cell, inputs, memory, masks = made(rng, attention_units=A)
    words = r"one for each attention\. Received: 4 for 5 attentions"
    with pytest.raises(ValueError, match=words):
        Recurrent(cell)(inputs, memory=memory[:4])
    with pytest.raises(ValueError, match=words):
        Recurrent(cell)(inputs, memory=memory, memory_mask=masks[:4])
    with pytest.raises(ValueError, match=words):
        Recurrent(AttentionCell(GRUCell(U), mixed()))(inputs, memory=memory[:4])


def test_a_memory_that_does_not_fit_raises(rng):
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    layer = Recurrent(AttentionCell(GRUCell(U), [LuongAttention("general"), BahdanauAttention(U)]))
    with pytest.raises(ValueError, match=r"batch sizes must agree.*inputs_shape=\(2, 3, 7\)"):
        layer(inputs, memory=[memory, normal(rng, B + 1, S, V)])
    with pytest.raises(ValueError, match=r"`memory` with three axes"):
        layer(inputs, memory=[memory, memory[:, 0]])
    with pytest.raises(ValueError, match=r"Score 'dot' multiplies query and value.*\(2, None, 13\).*\(2, 5, 11\)"):
        Recurrent(AttentionCell(GRUCell(U), [LuongAttention("dot")]))(inputs, memory=memory)


def test_an_empty_list_of_attentions_raises():
    with pytest.raises(ValueError, match=r"`attention` must be a `MemoryAttention`.*Received: attention=\[\]"):
        AttentionCell(GRUCell(U), [])


def test_without_an_activation_the_vector_is_linear(rng):
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    cells = [
        AttentionCell(GRUCell(U), LuongAttention("general"), A, input_feeding=False, attention_activation=activation)
        for activation in ("tanh", None)
    ]
    layers = [Recurrent(cell, return_sequences=True) for cell in cells]
    for layer in layers:
        layer(inputs, memory=memory)
    layers[1].set_weights(layers[0].get_weights())
    close(layers[0](inputs, memory=memory), np.tanh(numpy(layers[1](inputs, memory=memory))))
