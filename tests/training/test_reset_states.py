"""States begin anew with each epoch and around validation, in any Keras model, and training's come back."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_seqattn.layers import Bidirectional, GRUCell, LSTMCell, Recurrent
from keras_seqattn.training.callbacks import ResetStates
from keras_seqattn.training.callbacks.reset_states import reset_states

pytestmark = pytest.mark.tensorflow_only

B, T, D, U = 2, 3, 5, 7


class Inside(keras.layers.Layer):
    """Holds a stateful layer, as a layer of a user's own may."""

    def __init__(self):
        super().__init__()
        self.recurrent = Recurrent(GRUCell(U), stateful=True, return_sequences=True)

    def call(self, inputs):
        return self.recurrent(inputs)


class Counter(keras.layers.Layer):
    """A state of another kind: how many batches it has seen since the beginning."""

    def build(self, shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.seen.assign_add(1.0)
        return inputs

    def reset_state(self):
        self.seen.assign(0.0)


LAYERS = {
    "ours": lambda: Recurrent(LSTMCell(U), stateful=True, return_sequences=True),
    "Keras's": lambda: keras.layers.GRU(U, stateful=True, return_sequences=True),
    "both directions": lambda: Bidirectional(Recurrent(GRUCell(U), stateful=True, return_sequences=True)),
    "inside another": Inside,
    "in a model": lambda: keras.Sequential([keras.Input(batch_shape=(B, T, D)), Inside()]),
    "one's own": Counter,
}


def model_of(make):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(batch_shape=(B, T, D)), make(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def states(model):
    """What the model carries; Keras's RNN does not name its states among its variables."""
    own = [v for layer in model.layers if isinstance(layer, keras.layers.RNN) for v in layer.states]
    return [v.numpy() for v in [*own, *model.non_trainable_variables] if "seed" not in v.path]


def data(rng, batches):
    import tensorflow as tf

    x = rng.normal(size=(batches, B, T, D)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, np.ones((batches, B, T, 1), "float32")))


def are_zero(values):
    assert values
    return not any(np.any(value) for value in values)


@pytest.mark.parametrize("kind", LAYERS)
def test_every_epoch_begins_with_zero_states_and_so_does_what_comes_after_the_training(kind, rng):
    model, seen = model_of(LAYERS[kind]), []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append((batch, are_zero(states(model))))
    )
    model.fit(data(rng, 3), epochs=2, shuffle=False, verbose=0, callbacks=[ResetStates(), watch])
    assert seen == [(0, True), (1, False), (2, False)] * 2
    assert are_zero(states(model))


@pytest.mark.parametrize("kind", LAYERS)
def test_validation_begins_with_zero_states_and_gives_those_of_the_training_back(kind, rng):
    model, seen = model_of(LAYERS[kind]), {}
    note = keras.callbacks.LambdaCallback
    before = note(on_train_batch_end=lambda batch, logs: seen.update(before=states(model)))
    first = note(
        on_test_batch_begin=lambda batch, logs: seen.setdefault("first", states(model)),
        on_test_batch_end=lambda batch, logs: seen.update(carried=states(model)),
    )
    after = note(on_epoch_end=lambda epoch, logs: seen.update(after=states(model)))
    callbacks = [before, ResetStates(), first, after]
    model.fit(data(rng, 2), validation_data=data(rng, 2), shuffle=False, verbose=0, callbacks=callbacks)
    assert are_zero(seen["first"])
    assert not are_zero(seen["carried"])
    assert not are_zero(seen["before"])
    for one, other in zip(seen["before"], seen["after"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["ours", "Keras's"])
def test_evaluate_and_predict_read_from_the_beginning_and_leave_the_state_as_it_was(kind, rng):
    model = model_of(LAYERS[kind])
    wanted = model.predict(data(rng, 2), verbose=0, callbacks=[ResetStates()])
    assert are_zero(states(model))
    model(np.ones((B, T, D), "float32"))
    carried = states(model)
    assert not are_zero(carried)
    again = np.random.default_rng(0)
    np.testing.assert_array_equal(model.predict(data(again, 2), verbose=0, callbacks=[ResetStates()]), wanted)
    once = model.evaluate(data(rng, 2), verbose=0, callbacks=[ResetStates()])
    assert np.isfinite(once)
    for one, other in zip(carried, states(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_without_states_is_left_alone(rng):
    model = keras.Sequential([keras.Input((T, D)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data(rng, 2), validation_data=data(rng, 1), shuffle=False, verbose=0, callbacks=[ResetStates()])
    assert not are_zero(states(model))  # moving averages are no state of a series
    kept = states(model)
    reset_states(model)
    for one, other in zip(kept, states(model), strict=True):
        np.testing.assert_array_equal(one, other)
