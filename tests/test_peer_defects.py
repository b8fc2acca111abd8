"""What users of Keras and tensorflow-addons have run into: each holds here, under the number of its issue.

Defects without a number were found by running Keras 3.15. `tests/layers` has the equations; here are the accidents.
"""

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    Bidirectional,
    DropoutCell,
    GRUCell,
    JordanCell,
    LSTMCell,
    LuongAttention,
    Recurrent,
    ResidualCell,
    StackedCells,
)
from keras_seqattn.layers.recurrent.cell import RecurrentCell
from tests.layers.gradients import layer_gradients
from tests.layers.paper_weights import numpy
from tests.reference.arrays import B, D, S, T, U, V, normal

MASK = np.array([[1, 1, 0], [0, 0, 0]], bool)  # a padded row, and one without any step
MEMORY_MASK = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)


def attending(cell=None, attention=None, **options):
    return AttentionCell(cell or GRUCell(U), attention or LuongAttention("general"), attention_units=V, **options)


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(numpy(actual), numpy(expected), rtol=1e-4, atol=tolerance)


@pytest.fixture
def half():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


# Masks


@pytest.mark.parametrize("make", [GRUCell, LSTMCell, JordanCell])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_keras_fully_masked_rows_give_zeros_and_finite_gradients(rng, make, go_backwards):
    """tensorflow #43103, #36139, #33148, #49241: rows that are padding alone, on the left or on the right."""
    layer, inputs = Recurrent(make(U), go_backwards=go_backwards), normal(rng, B, T, D)
    output = numpy(layer(inputs, mask=MASK))
    assert not output[1].any()
    close(output[:1], layer(inputs[:1, :2]))
    found_inputs, found = layer_gradients(layer, {"inputs": inputs}, ops.sum, mask=MASK)
    assert not found_inputs["inputs"][1].any()
    assert all(np.isfinite(x).all() for x in found.values())


@pytest.mark.parametrize("attention", [lambda: LuongAttention("dot"), lambda: BahdanauAttention(U)])
def test_keras_attention_of_a_fully_masked_row_is_zero_rather_than_uniform(rng, attention):
    """`keras.layers.Attention` spreads the scores of a fully masked row over its padding."""
    query, value = normal(rng, B, T, V), normal(rng, B, S, V)
    context, scores = attention()(query, value, value_mask=MEMORY_MASK, return_attention_scores=True)
    assert not numpy(scores)[1].any() and not numpy(context)[1].any()
    assert not numpy(scores)[0, :, 3:].any()
    np.testing.assert_allclose(numpy(scores)[0].sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("attention", [lambda: LuongAttention("dot"), lambda: BahdanauAttention(U)])
def test_keras_attention_obeys_explicit_masks_as_it_obeys_carried_ones(rng, attention):
    """`keras.layers.MultiHeadAttention` overwrites a `query_mask` that is passed by the one that the query carries."""
    layer, query, value = attention(), normal(rng, B, T, V), normal(rng, B, S, V)
    query, value = query * MASK[:, :, None], value * MEMORY_MASK[:, :, None]
    explicit = layer(query, value, query_mask=MASK, value_mask=MEMORY_MASK)
    assert not numpy(explicit)[~MASK].any()
    carried = layer(keras.layers.Masking()(query), keras.layers.Masking()(value))
    close(explicit, carried)


def test_keras_explicit_masks_of_a_recurrent_layer_rule_over_carried_ones(rng):
    """An explicit `mask` beside inputs that carry another one."""
    layer, inputs = Recurrent(GRUCell(U)), normal(rng, B, T, D)
    carrying = keras.layers.Masking()(inputs * np.array([[1, 1, 1], [1, 0, 1]])[:, :, None])
    close(layer(carrying, mask=MASK), layer(numpy(carrying), mask=MASK))


# Half precision


@pytest.mark.parametrize("attend", ["after", "before"])
def test_keras_and_tfa_logits_past_65504_stay_finite_in_half_precision(rng, attend, half):
    """keras #17571, tensorflow #46064: the softmax of large logits in mixed_float16 is NaN."""
    cell = attending(GRUCell(V), LuongAttention("dot"), attend=attend)
    layer = Recurrent(cell, return_sequences=True, return_trace=True)
    output, trace = layer(normal(rng, B, T, D), memory=6e4 * np.sign(normal(rng, B, S, V)), memory_mask=MEMORY_MASK)
    assert np.isfinite(numpy(output)).all()
    np.testing.assert_allclose(numpy(trace["attention_scores"])[0].sum(axis=-1), 1, atol=1e-2)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_tfa_mixed_precision_trains(rng, policy):
    """addons #1968, #2106; OpenNMT-tf #833: the wrapper mixes dtypes, and fails."""
    keras.config.set_dtype_policy(policy)
    try:
        inputs, memory = keras.Input((T, D)), keras.Input((S, V))
        cell = StackedCells([attending(LSTMCell(U, dropout=0.1)), ResidualCell(GRUCell(V, zoneout=0.1))])
        output = Recurrent(cell, return_sequences=True)(inputs, memory=memory)
        model = keras.Model([inputs, memory], keras.layers.Dense(1, dtype="float32")(output))
        model.compile("adam", "mse", jit_compile=False)
        arrays = [normal(rng, B, T, D), normal(rng, B, S, V)]
        losses = [model.train_on_batch(arrays, normal(rng, B, T, 1)) for _ in range(2)]
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(losses).all()
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)


# A memory, and one step at a time


def test_tfa_a_first_state_needs_no_memory(rng):
    """addons #670, #647: the mechanism must hold a memory before the wrapper can give an initial state."""
    cell = attending(LSTMCell(U))
    states = cell.get_initial_state(batch_size=B)
    assert [tuple(x.shape) for x in tree.flatten(states)] == [(B, U), (B, U), (B, V)]
    output, _ = cell(normal(rng, B, D), states, memory=normal(rng, B, S, V))
    assert tuple(output.shape) == (B, V)


def test_tfa_each_call_has_a_memory_of_its_own(rng):
    """addons #1118: a memory that is a state of the mechanism stays for the next call, of another batch size too."""
    layer = Recurrent(attending())
    inputs, memory = normal(rng, B, T, D), normal(rng, B, S, V)
    first = numpy(layer(inputs, memory=memory))
    layer(normal(rng, 3, T, D), memory=normal(rng, 3, T, V))
    close(layer(inputs, memory=memory), first)


@pytest.mark.parametrize("attend", ["after", "before"])
def test_tfa_one_step_at_a_time_is_the_sequence(rng, attend):
    """addons #2193, #2459: stepping by hand, as a beam search does, G hypotheses a row."""
    beams, cell = 2, StackedCells([attending(attend=attend), DropoutCell(LSTMCell(U), 0.5)])
    inputs, memory = normal(rng, B * beams, T, D), normal(rng, B, S, V)
    memory_mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    repeated = {"memory": np.repeat(memory, beams, 0), "memory_mask": np.repeat(memory_mask, beams, 0)}
    expected = Recurrent(cell, return_sequences=True)(inputs, **repeated)
    states = cell.get_initial_state(batch_size=B * beams)
    for t in range(T):
        output, states = cell(inputs[:, t], states, memory=memory, memory_mask=memory_mask)
        close(output, numpy(expected)[:, t])


# What is inside


def test_keras_every_gate_and_every_steps_cell_come_out(rng):
    """keras #9493, #7816: gates and the cell state of every step, not of the last alone."""
    layer = Recurrent(LSTMCell(U), return_sequences=True, return_state=True, return_trace=True)
    output, h, cell, trace = layer(normal(rng, B, T, D))
    assert {name: tuple(x.shape) for name, x in trace.items()} == dict.fromkeys(
        ["input_gate", "forget_gate", "output_gate", "candidate", "cell"], (B, T, U)
    )
    close(trace["cell"][:, -1], cell)
    close(output[:, -1], h)
    before = np.concatenate([np.zeros((B, 1, U)), numpy(trace["cell"])[:, :-1]], axis=1)
    gates = {name: numpy(x) for name, x in trace.items()}
    close(gates["forget_gate"] * before + gates["input_gate"] * gates["candidate"], trace["cell"])


class MatrixCell(keras.layers.Layer):
    """A cell of Keras's protocol with a state (B, 2, 3)."""

    state_size, output_size = [(2, 3)], D

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, 2, 3))]

    def call(self, inputs, states):
        return inputs + ops.sum(states[0], axis=(1, 2))[:, None], [states[0] + inputs[:, :1, None]]


def test_keras_a_matrix_state_is_foretold_as_it_is(rng):
    """`keras.layers.RNN` foretells a state (B, 2, 3) as a pair of vectors (B, 2) and (B, 3)."""
    layer = Recurrent(MatrixCell(), return_state=True)
    _, foretold = layer(keras.Input((T, D)))
    _, real = layer(normal(rng, B, T, D))
    assert tuple(foretold.shape) == (None, 2, 3) and tuple(real.shape) == (B, 2, 3)


# Saving and compiling


@keras.saving.register_keras_serializable(package="tests")
class LeakyCell(RecurrentCell):
    """A cell of a user's own."""

    def __init__(self, units, leak=0.9, **kwargs):
        super().__init__(**kwargs)
        self.units, self.leak = units, leak
        self.state_size = self.output_size = units

    def build(self, inputs_shape):
        self.kernel = self.add_weight(shape=(inputs_shape[-1], self.units), name="kernel")

    def project(self, inputs, start=0):
        return ops.matmul(inputs, self.kernel)

    def step(self, projected, states, memory=None, training=False, noise=()):
        state = self.leak * states[0] + projected
        return state, [state], {}

    def get_config(self):
        return {**super().get_config(), "units": self.units, "leak": self.leak}


@keras.saving.register_keras_serializable(package="tests")
class KerasLeakyCell(keras.layers.Layer):
    """A cell of Keras's protocol of a user's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units
        self.dense = keras.layers.Dense(units)

    def build(self, inputs_shape):
        self.dense.build(inputs_shape)

    def call(self, inputs, states):
        state = 0.9 * states[0] + self.dense(inputs)
        return state, [state]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize("make", [LeakyCell, KerasLeakyCell])
@pytest.mark.parametrize("wrap", ["bare", "wrapped", "attending", "bidirectional"])
def test_keras_cells_of_ones_own_are_saved_within_ours(rng, tmp_path, make, wrap):
    """keras #20322, #15794, tensorflow #45224: a model with a custom cell saves and does not load."""
    inputs, memory = keras.Input((T, D)), keras.Input((S, V))
    arrays = [normal(rng, B, T, D), normal(rng, B, S, V)]
    if wrap == "attending":
        outputs = Recurrent(attending(DropoutCell(make(U), 0.5)))(inputs, memory=memory)
    elif wrap == "wrapped":
        cell = StackedCells([ResidualCell(make(D)), DropoutCell(make(U), 0.5)])
        outputs = Recurrent(cell, return_state=True)(inputs)
    elif wrap == "bidirectional":
        outputs = Bidirectional(Recurrent(make(U)))(inputs)
    else:
        outputs = Recurrent(make(U))(inputs)
    model = keras.Model([inputs, memory], outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(tree.flatten(loaded(arrays)), tree.flatten(model(arrays)), strict=True):
        close(a, b)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="XLA compiles for TensorFlow and JAX")
@pytest.mark.parametrize("mask", [False, True])
def test_keras_a_model_with_an_lstm_compiles_by_xla(rng, mask):
    """keras #18456, tensorflow #99385, #83063: what cuDNN runs XLA does not compile, so Keras turns it off unasked."""
    layers = [keras.Input((T, D)), *([keras.layers.Masking()] if mask else [])]
    model = keras.Sequential([*layers, Recurrent(LSTMCell(U), return_sequences=True), Recurrent(GRUCell(V))])
    inputs = normal(rng, B, T, D) * (MASK[:, :, None] if mask else 1)
    expected = numpy(model(inputs))
    model.compile("sgd", "mse", jit_compile=True)
    assert model.jit_compile is True and model.supports_jit
    close(model.predict(inputs, verbose=0), expected)
    assert np.isfinite(model.train_on_batch(inputs, normal(rng, B, V)))


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have:UserWarning")  # Keras's words on its own layers
def test_keras_a_quantized_model_says_which_cells_stay_as_they_were(rng):
    """`model.quantize("int8")` passes over layers that hold layers without a word; the cells within speak."""
    model = keras.Sequential(
        [
            keras.Input((T, D)),
            Recurrent(StackedCells([ResidualCell(LSTMCell(D, name="below")), GRUCell(U, name="above")])),
            keras.layers.Dense(3),
        ]
    )
    inputs = normal(rng, B, T, D)
    before = numpy(model(inputs))
    with (
        pytest.warns(UserWarning, match="The recurrent cell '.*below' stays in float32"),
        pytest.warns(UserWarning, match="The recurrent cell '.*above' stays in float32"),
    ):
        model.quantize("int8")
    assert model.layers[-1].kernel.dtype == "int8"
    close(model(inputs), before, tolerance=0.1)


def test_keras_a_cell_with_a_quantized_policy_raises():
    """A policy such as "int8_from_float32" is not passed over either."""
    with pytest.raises(ValueError, match="Recurrent cells compute in floats.*Received: dtype='int8_from_float32'"):
        LSTMCell(U, dtype="int8_from_float32")


@pytest.mark.tensorflow_only
def test_keras_ragged_inputs_are_read_to_the_end_of_each_row(rng):
    """keras #19646, #20073, #20576: Embedding passes ragged ids on, and LSTM raises."""
    import tensorflow as tf

    embed, layer = keras.layers.Embedding(9, D), Recurrent(LSTMCell(U))
    output = layer(embed(tf.ragged.constant([[1, 2, 3], [4, 5]])))
    close(output[:1], layer(embed(np.array([[1, 2, 3]]))))
    close(output[1:], layer(embed(np.array([[4, 5]]))))


@pytest.mark.tensorflow_only
def test_keras_a_stateful_layer_is_exported_by_its_batch_size(rng, tmp_path):
    """The export of a stateful LSTM raises for an open batch, deep inside; with a fixed one the state is carried."""
    import tensorflow as tf

    model = keras.Sequential([keras.Input(batch_shape=(B, T, D)), Recurrent(LSTMCell(U), stateful=True)])
    inputs = normal(rng, B, 2 * T, D)
    with pytest.raises(ValueError, match="signature that it is exported with, needs the batch size.*Expected: 2"):
        model.export(tmp_path / "open", format="tf_saved_model", verbose=False)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, input_signature=[tf.TensorSpec((B, T, D), "float32")])
    archive.write_out(tmp_path / "archive", verbose=False)
    signature = [tf.TensorSpec((B, T, D), "float32")]
    model.export(tmp_path / "fixed", format="tf_saved_model", verbose=False, input_signature=signature)
    expected = Recurrent(model.layers[-1].cell, return_sequences=True)(inputs)
    for name in ("archive", "fixed"):
        served = tf.saved_model.load(tmp_path / name)
        for half in range(2):
            output = served.serve(inputs[:, half * T : (half + 1) * T])
            close(output, numpy(expected)[:, (half + 1) * T - 1])


@pytest.mark.tensorflow_only
def test_keras_what_is_drawn_in_training_does_not_hinder_an_export(rng, tmp_path):
    """keras-hub #2015, #1629: untracked resources; here, the state of the random numbers."""
    import tensorflow as tf

    cell = DropoutCell(LSTMCell(U, dropout=0.5, zoneout=0.1, seed=3), output_dropout=0.5)
    model = keras.Sequential([keras.Input((None, D)), Recurrent(cell)])
    inputs = normal(rng, 3, S, D)
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    close(served.serve(inputs), model(inputs))
