"""Windows with carried state: what they hold, that nothing is lost at their borders, and where gradients end."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import ElmanCell, GRUCell, JordanCell, LSTMCell, Recurrent
from keras_seqattn.training.callbacks import ResetStates
from keras_seqattn.training.windows import cut_windows

pytestmark = pytest.mark.tensorflow_only

B, W, D, U, C = 2, 5, 3, 7, 11
CELLS = [ElmanCell, GRUCell, JordanCell, LSTMCell]


def batches(windows, **options):
    return [tuple(array.numpy() for array in batch) for batch in windows.dataset(**options)]


def test_each_row_goes_on_in_the_next_batch():
    windows = cut_windows(np.arange(13), batch_size=2, window=3)
    first, second = batches(windows)
    assert windows.steps == 2
    np.testing.assert_array_equal(first[0], [[0, 1, 2], [6, 7, 8]])
    np.testing.assert_array_equal(second[0], [[3, 4, 5], [9, 10, 11]])
    np.testing.assert_array_equal(first[1], first[0] + 1)  # the next step of the series
    np.testing.assert_array_equal(second[1], second[0] + 1)
    assert first[2].all() and second[2].all()


@pytest.mark.parametrize("length", [30, 31, 37, 59])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_every_step_counts_exactly_once_and_in_order(length, batch_size):
    windows = cut_windows(np.arange(1, length + 1), batch_size, W)
    inputs, targets, weights = (np.concatenate(parts, axis=1) for parts in zip(*batches(windows), strict=True))
    counts = weights > 0
    np.testing.assert_array_equal(inputs[counts], np.arange(1, length))  # row after row
    np.testing.assert_array_equal(targets[counts], np.arange(2, length + 1))
    assert not inputs[~counts].any() and not targets[~counts].any()
    lengths = counts.sum(axis=1)
    assert lengths.max() - lengths.min() <= 1
    assert all((np.diff(row.astype(int)) <= 0).all() for row in counts)  # what fills up stands at the end


def test_features_and_targets_of_ones_own_keep_their_axes_and_dtypes(rng):
    series, targets = rng.normal(size=(23, D)).astype("float32"), rng.integers(0, C, (23, 2))
    windows = cut_windows(series, B, W, targets)
    ((inputs, wanted, weights), *_) = batches(windows)
    assert (inputs.shape, wanted.shape, weights.shape) == ((B, W, D), (B, W, 2), (B, W))
    assert (inputs.dtype, wanted.dtype, weights.dtype) == ("float32", targets.dtype, "float32")
    np.testing.assert_array_equal(inputs[0], series[:W])
    np.testing.assert_array_equal(wanted[0], targets[:W])


def test_the_shape_is_static_and_epochs_follow_each_other():
    windows = cut_windows(np.arange(32), B, W)
    dataset = windows.dataset(epochs=3)
    assert [tuple(spec.shape) for spec in dataset.element_spec] == [(B, W)] * 3
    assert dataset.cardinality() == 3 * windows.steps
    once, thrice = batches(windows), batches(windows, epochs=3)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(once * 3, thrice, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.arange(10), 0, 3), r"`batch_size` must be at least 1\. Received: batch_size=0"),
        ((np.arange(10), 3, 0), r"`window` must be at least 1\. Received: window=0"),
        ((np.arange(10), 2, 5), r"must fill a window in each row, 10 steps.*Received: 9 steps, batch_size=2, window=5"),
        ((np.arange(0), 1, 1), r"Received: 0 steps"),
        ((np.float32(1), 1, 1), r"must have an axis of time"),
        ((np.arange(10), 1, 1, np.arange(9)), r"both must be as long.*\(10,\).*\(9,\)"),
    ],
    ids=["no row", "no step", "too short", "empty", "a number", "other targets"],
)
def test_what_cannot_be_cut_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        cut_windows(*arguments)


# ---- the state is carried: windows give what the whole series gives ----


def network(cell, stateful=True, rows=B, **options):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(batch_shape=(rows, None, D)),
            Recurrent(cell(U), return_sequences=True, stateful=stateful, **options),
            keras.layers.Dense(C),
        ]
    )


def rows_of(rng, length):
    """A series and its ids to predict, and the same as rows of a batch."""
    series, targets = rng.normal(size=(B * length, D)).astype("float32"), rng.integers(0, C, B * length)
    return series, targets, series.reshape(B, length, D), targets.reshape(B, length)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("window", [1, 3, W, 4 * W])
def test_windows_give_exactly_what_the_whole_series_gives_in_one_call(cell, window, rng):
    series, targets, rows, _ = rows_of(rng, length=4 * W)
    carried, whole = network(cell), network(cell, stateful=False)
    read = [
        (carried(inputs).numpy(), weights) for inputs, _, weights in cut_windows(series, B, window, targets).dataset()
    ]
    outputs = np.concatenate([output for output, _ in read], axis=1)[:, : 4 * W]
    np.testing.assert_allclose(outputs, whole(rows), rtol=1e-5, atol=1e-6)
    if window < 4 * W:  # and forgetting between them shows
        alone = whole(rows[:, window : 2 * window])
        assert not np.allclose(outputs[:, window : 2 * window], alone, atol=1e-3)


# ---- the gradient is not: it ends at the border ----


def loss_of(logits, targets):
    return ops.mean(ops.sparse_categorical_crossentropy(targets, logits, from_logits=True))


def gradient(model, loss):
    import tensorflow as tf

    @tf.function
    def taken():
        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, model.trainable_variables)

    return [tf.convert_to_tensor(g).numpy() for g in taken()]


def close(one, other):
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_of_a_window_is_that_of_its_loss_with_the_state_at_the_border_held_constant(cell, rng):
    _, _, rows, targets = rows_of(rng, length=2 * W)
    carried, reference = network(cell), network(cell, stateful=False, return_state=False)
    layer, readout = reference.layers
    carried(rows[:, :W])
    found = gradient(carried, lambda: loss_of(carried(rows[:, W:], training=True), targets[:, W:]))

    speaking = Recurrent(layer.cell, return_sequences=True, return_state=True)  # the same weights

    def second(stop):
        _, *states = speaking(rows[:, :W], training=True)
        output, *_ = speaking(rows[:, W:], initial_state=[stop(state) for state in states], training=True)
        return loss_of(readout(output), targets[:, W:])

    assert close(found, gradient(reference, lambda: second(ops.stop_gradient)))
    assert not close(found, gradient(reference, lambda: second(lambda state: state)))  # which reaches further back


def test_the_gradient_of_a_window_is_that_of_finite_differences_from_the_state_at_the_border(rng):
    _, _, rows, targets = rows_of(rng, length=2 * W)
    model = network(GRUCell)
    layer = model.layers[0]
    model(rows[:, :W])
    border = [state.numpy() for state in layer.states]

    def loss():
        for state, value in zip(layer.states, border, strict=True):
            state.assign(value)
        return float(loss_of(model(rows[:, W:]), targets[:, W:]))

    found = gradient(model, lambda: loss_of(model(rows[:, W:], training=True), targets[:, W:]))
    for variable, slope in zip(model.trainable_variables, found, strict=True):
        value, direction = variable.numpy(), rng.normal(size=variable.shape).astype("float32")
        step = 3e-3
        ends = []
        for sign in (1, -1):
            variable.assign(value + sign * step * direction)
            ends.append(loss())
        variable.assign(value)
        measured = (ends[0] - ends[1]) / (2 * step)
        assert measured == pytest.approx(float((slope * direction).sum()), rel=2e-2, abs=3e-4), variable.path


def fitted(model, windows, use_xla=False):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, jit_compile=use_xla)
    model.fit(windows.dataset(), verbose=0, shuffle=False, callbacks=[ResetStates()])
    return model.get_weights()


@pytest.mark.parametrize("cell", [GRUCell, LSTMCell])
def test_a_window_as_long_as_the_series_is_backpropagation_through_all_of_it(cell, rng):
    series, ids, rows, targets = rows_of(rng, length=3 * W)
    whole = network(cell, stateful=False)
    slopes = gradient(whole, lambda: loss_of(whole(rows, training=True), targets))
    wanted = [v.numpy() - 0.5 * slope for v, slope in zip(whole.trainable_variables, slopes, strict=True)]
    model = network(cell)
    fitted(model, cut_windows(series, B, 3 * W, ids))
    for one, other in zip(model.trainable_variables, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_fit_takes_a_step_a_window_with_the_state_that_the_window_before_left(rng):
    series, ids, rows, targets = rows_of(rng, length=2 * W)
    wanted = network(GRUCell)
    for begin in (0, W):
        batch = slice(begin, begin + W)
        slopes = gradient(wanted, lambda batch=batch: loss_of(wanted(rows[:, batch], training=True), targets[:, batch]))
        if begin == 0:  # taking the gradient has carried the state
            assert wanted.layers[0].states[0].numpy().any()
        for variable, slope in zip(wanted.trainable_variables, slopes, strict=True):
            variable.assign(variable - 0.5 * slope)
    model = network(GRUCell)
    fitted(model, cut_windows(series, B, W, ids))
    for one, other in zip(model.trainable_variables, wanted.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [GRUCell, LSTMCell])
def test_a_step_compiled_by_xla_carries_the_state_alike(cell, rng):
    series, ids, _, _ = rows_of(rng, length=3 * W)
    windows = cut_windows(series, B, W, ids)
    plain, compiled = (fitted(network(cell), windows, use_xla) for use_xla in (False, True))
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# ---- and it learns what no window alone can tell ----


def marks(rng, length, every=12):
    """Now and then a mark, +1 or -1; at each step the last mark is to be told. How old it is, too."""
    shown = rng.random(length) < 1 / every
    shown[0] = True
    marks = np.where(rng.random(length) < 0.5, 1.0, -1.0) * shown
    last = np.maximum.accumulate(np.where(shown, np.arange(length), 0))
    return marks[:, None].astype("float32"), (marks[last] > 0).astype("int32"), np.arange(length) - last


@pytest.mark.slow
@pytest.mark.parametrize("stateful", [True, False], ids=["carried", "forgotten"])
def test_a_mark_of_an_earlier_window_is_told_only_by_a_carried_state(stateful, rng):
    """Where the last mark lies beyond the border, a window alone leaves two answers, equally likely."""
    rows, window = 16, 6
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(rows, window, 1)),
            Recurrent(GRUCell(12), return_sequences=True, stateful=stateful),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    series, wanted, _ = marks(rng, 6000)
    windows = cut_windows(series, rows, window, wanted)
    options = {"epochs": 4, "steps_per_epoch": windows.steps, "shuffle": False, "verbose": 0}
    model.fit(windows.dataset(4), callbacks=[ResetStates()], **options)

    series, wanted, age = marks(rng, rows * window * 40)
    windows = cut_windows(series, rows, window, np.stack([wanted, age], axis=1))
    hits, beyond = [], []
    for inputs, targets, _ in windows.dataset():
        told = model(inputs).numpy().argmax(-1)
        hits.append(told == targets[..., 0].numpy())
        beyond.append(targets[..., 1].numpy() > np.arange(window))
    hits, beyond = np.stack(hits)[1:], np.stack(beyond)[1:]  # (windows, B, W), all but the first of each row
    assert beyond.sum() > 1000
    assert hits[~beyond].mean() > 0.95
    if stateful:
        assert hits[beyond].mean() > 0.9
    else:
        assert hits[beyond].mean() < 0.6
