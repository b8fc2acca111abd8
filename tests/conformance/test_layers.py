import keras
import numpy as np
import pytest
from keras.src.testing import TestCase  # Keras ships the test that its own layers pass, and nowhere else

from keras_seqattn import layers
from keras_seqattn.testing import check_layer
from tests.conformance.cases import CASES, Case, bahdanau_cell, luong_cell, sampling_cell
from tests.layers.paper_weights import numpy
from tests.reference.arrays import B, D, S, T, U, V

PUBLIC = {name for name in layers.__all__ if issubclass(getattr(layers, name), keras.layers.Layer)}
# A `ScheduledSamplingCell` takes no gradient through its projection, which a model uses elsewhere too.
NO_GRADIENT = pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning")


def test_every_public_layer_has_a_case():
    assert {type(case.make()).__name__ for case in CASES} == PUBLIC


@NO_GRADIENT
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_keeps_every_rule(case):
    check_layer(case.make, case.inputs, **case.options)


# What `run_layer_test` cannot take, and where that is tested instead:
# - several tensors in its training step, which calls the layer with one argument (`check_layer`, rule train_step);
# - call arguments that `build` does not know, such as masks and states, but as constants, without its training step and
#   without its comparison of dtypes in half precision (`check_layer`, rules train_step and mixed_precision);
# - several outputs in its training step, as `compile` wants one loss each (the same);
# - in its comparison of dtypes, layers whose outputs are foretold by tracing: it traces outside of a call, where no
#   weight is cast to half precision, and float32 does not go with float16 (`check_layer`, rule mixed_precision).
# So each cell stands here twice: by itself with constant states, and in a `Recurrent` that has one input.
ONE_INPUT = {
    "ElmanCell": lambda: layers.Recurrent(layers.ElmanCell(U), return_sequences=True),
    "GRUCell": lambda: layers.Recurrent(layers.GRUCell(U), go_backwards=True),
    "LSTMCell": lambda: layers.Recurrent(layers.LSTMCell(U)),
    "StackedCells": lambda: layers.Recurrent(layers.StackedCells([layers.GRUCell(U), layers.LSTMCell(V)])),
    "JordanCell": lambda: layers.Recurrent(layers.JordanCell(U, V)),
    "ResidualCell": lambda: layers.Recurrent(layers.ResidualCell(layers.LSTMCell(D)), return_sequences=True),
    "DropoutCell": lambda: layers.Recurrent(layers.DropoutCell(layers.GRUCell(U), 0.1, 0.1, 0.1)),
    "ScheduledSamplingCell": lambda: layers.Recurrent(sampling_cell(layers.GRUCell(U))),
    "Bidirectional": lambda: layers.Bidirectional(layers.Recurrent(layers.GRUCell(U), return_sequences=True)),
    "FeedForward": lambda: layers.FeedForward(U),
    "LearnedPositions": lambda: layers.LearnedPositions(T),
    "TransformerEncoder": lambda: layers.TransformerEncoder(1, U),
}
SEVERAL_INPUTS = {
    "AttentionCell-luong": (lambda: layers.Recurrent(luong_cell()), ("inputs", "memory")),
    "AttentionCell-bahdanau": (lambda: layers.Recurrent(bahdanau_cell()), ("inputs", "memory")),
    "BahdanauAttention": (lambda: layers.BahdanauAttention(U), ("query", "value")),
    "LuongAttention-general": (lambda: layers.LuongAttention("general"), ("query", "value")),
    "LuongAttention-concat": (lambda: layers.LuongAttention("concat", units=U), ("query", "value")),
    "LocalAttention": (lambda: layers.LocalAttention(window=1), ("query", "value")),
    "MonotonicAttention": (lambda: layers.MonotonicAttention(units=U), ("query", "value")),
    "LocationSensitiveAttention": (
        lambda: layers.LocationSensitiveAttention(U, filters=2, kernel_size=3),
        ("query", "value"),
    ),
    "MultiHeadAttention": (lambda: layers.MultiHeadAttention(4, 6, num_kv_heads=2), ("query", "value")),
    "TransformerDecoder": (lambda: layers.TransformerDecoder(1, U), ("inputs", "memory")),
}
CELLS = {
    "ElmanCell": lambda: layers.ElmanCell(U),
    "GRUCell": lambda: layers.GRUCell(U),
    "LSTMCell": lambda: layers.LSTMCell(U),
    "StackedCells": lambda: layers.StackedCells([layers.GRUCell(U), layers.LSTMCell(V)]),
    "JordanCell": lambda: layers.JordanCell(U, V),
    "ResidualCell": lambda: layers.ResidualCell(layers.GRUCell(D)),
    "DropoutCell": lambda: layers.DropoutCell(layers.LSTMCell(U)),
    "ScheduledSamplingCell": lambda: sampling_cell(layers.GRUCell(U)),
}


def maker(make):
    """`make` as the class that `run_layer_test` expects: it asks for a dtype policy by the argument `dtype`."""

    def made(dtype="float32"):
        keras.config.set_dtype_policy(dtype)
        try:
            return make()
        finally:
            keras.config.set_dtype_policy("float32")

    return made


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")  # by the test itself
@NO_GRADIENT
@pytest.mark.parametrize("name", ONE_INPUT)
def test_a_layer_of_one_input_passes_the_test_of_kerass_own_layers(name):
    TestCase().run_layer_test(
        maker(ONE_INPUT[name]), {}, input_shape=(B, T, D), supports_masking=True, run_mixed_precision_check=False
    )


IDS = np.array([[1, 18, 2], [3, 3, 0]], "int32")
# Without weights there is nothing to train; ids are no floats.
OTHERWISE = {
    "SinusoidalPositions": (lambda: layers.SinusoidalPositions(), {"input_shape": (B, T, D)}),
    "TokenEmbedding": (
        lambda: layers.TokenEmbedding(19, D),
        {"input_data": IDS},
    ),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_layer_that_is_not_trained_on_floats_passes_the_test_of_kerass_own_layers(name):
    make, inputs = OTHERWISE[name]
    TestCase().run_layer_test(
        maker(make),
        {},
        **inputs,
        supports_masking=True,
        run_training_check=False,
        run_mixed_precision_check=False,
    )


@pytest.mark.parametrize("name", SEVERAL_INPUTS)
def test_a_layer_of_several_inputs_passes_the_test_of_kerass_own_layers(name):
    make, (first, second) = SEVERAL_INPUTS[name]
    shapes = {f"{first}_shape": (B, T, D), f"{second}_shape": (B, S, V)}
    TestCase().run_layer_test(
        maker(make),
        {},
        input_shape=shapes,
        input_dtype=dict.fromkeys(shapes, "float32"),
        run_training_check=False,
        run_mixed_precision_check="Attention-" in name + "-" and "Cell" not in name,
    )


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_passes_the_test_of_kerass_own_layers(name):
    states = [numpy(state) for state in keras.tree.flatten(CELLS[name]().get_initial_state(batch_size=B))]
    states = keras.tree.pack_sequence_as(CELLS[name]().get_initial_state(batch_size=B), states)
    TestCase().run_layer_test(
        maker(CELLS[name]),
        {},
        input_shape=(B, D),
        call_kwargs={"states": states},
        run_training_check=False,
        run_mixed_precision_check=False,
    )


def test_every_public_layer_passes_the_test_of_kerass_own_layers():
    names = {name.partition("-")[0] for name in [*ONE_INPUT, *OTHERWISE, *SEVERAL_INPUTS, *CELLS]}
    assert names | {"Recurrent"} == PUBLIC  # `Recurrent` runs all of the cells


def test_cases_have_names_of_their_own_that_begin_with_the_layers_name():
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(isinstance(case, Case) and case.name.partition("-")[0] == type(case.make()).__name__ for case in CASES)
