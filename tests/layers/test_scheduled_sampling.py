import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.layers import AttentionCell, GRUCell, LSTMCell, LuongAttention, Recurrent, ScheduledSamplingCell
from keras_seqattn.schedules import InverseSigmoidDecay
from tests.layers.paper_weights import numpy, randomize
from tests.reference.arrays import B, D, S, U, V, normal

C = 17  # words
STEPS = 6


def parts(rng, cell, teacher_forcing, **options):
    """A decoder under scheduled sampling, the cell within, its embedding and its projection, with random weights."""
    embedding, projection = keras.layers.Embedding(C, D), keras.layers.Dense(C)
    wrapped = ScheduledSamplingCell(cell, embedding, projection, teacher_forcing, **options)
    decoder = Recurrent(wrapped, return_sequences=True, return_state=True)
    memory = {"memory": normal(rng, B, S, V)} if wrapped.attends else {}
    decoder(normal(rng, B, STEPS, D), **memory)
    for layer in (wrapped, projection, embedding):
        randomize(layer, rng, scale=1.0)
    return decoder, embedding, projection, memory


def attending():
    return AttentionCell(LSTMCell(U), LuongAttention("general"), attention_units=U, input_feeding=False)


CELLS = {"gru": lambda: GRUCell(U), "lstm": lambda: keras.layers.LSTMCell(U), "attending": attending}
CELL = pytest.mark.parametrize("cell", CELLS)


def close(actual, expected):
    np.testing.assert_allclose(numpy(actual), numpy(expected), rtol=1e-4, atol=1e-5)


@CELL
def test_with_teacher_forcing_alone_it_is_the_cell_within(rng, cell):
    decoder, _, _, memory = parts(rng, CELLS[cell](), 1.0)
    inputs = normal(rng, B, STEPS, D)
    plain = Recurrent(decoder.cell.cell, return_sequences=True)(inputs, **memory)
    for training in (True, False):
        close(decoder(inputs, training=training, **memory)[0], plain)


@CELL
def test_outside_of_training_it_reads_its_inputs(rng, cell):
    decoder, _, _, memory = parts(rng, CELLS[cell](), 0.0)
    inputs = normal(rng, B, STEPS, D)
    close(decoder(inputs, **memory)[0], Recurrent(decoder.cell.cell, return_sequences=True)(inputs, **memory))


@CELL
def test_without_teacher_forcing_it_goes_on_from_its_most_likely_words(rng, cell):
    decoder, embedding, projection, memory = parts(rng, CELLS[cell](), 0.0, sample=False)
    inputs = normal(rng, B, STEPS, D)
    found, *states = decoder(inputs, training=True, **memory)
    read, within = inputs[:, :1], Recurrent(decoder.cell.cell, return_sequences=True)
    for t in range(1, STEPS + 1):  # what was read so far decides the next word, and nothing else does
        outputs = within(read, **memory)
        close(found[:, :t], outputs)
        ids = np.argmax(numpy(projection(outputs[:, -1])), axis=-1)
        read = np.concatenate([read, numpy(embedding(ids))[:, None]], axis=1)
    np.testing.assert_array_equal(numpy(states[-1]), ids[:, None] + 1)


def test_a_masked_step_tells_no_word(rng):
    decoder, *_ = parts(rng, GRUCell(U), 0.0, sample=False)
    inputs, mask = normal(rng, B, STEPS, D), np.array([[1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 0, 0]], bool)
    found, *states = [numpy(x) for x in decoder(inputs, mask=mask, training=True)]
    for row, keep in enumerate(mask):
        alone, *last = decoder(inputs[row : row + 1, keep], training=True)
        close(found[row : row + 1, keep], alone)
        for state, expected in zip(states, last, strict=True):
            close(state[row : row + 1], expected)


def test_words_are_drawn_as_often_as_the_model_expects_them(rng):
    decoder, _, projection, _ = parts(rng, GRUCell(U), 0.0, seed=1)
    cell, rows = decoder.cell, 20_000
    output = np.tile(normal(rng, 1, U), (rows, 1))
    ids = numpy(cell.predict(ops.convert_to_tensor(output), keras.random.uniform((rows,), seed=2)))[:, 0]
    expected = numpy(ops.softmax(projection(output[:1])))[0]
    np.testing.assert_allclose(np.bincount(ids, minlength=C) / rows, expected, atol=0.015)
    for draw, last in ((0.0, np.flatnonzero(expected > 0)[0]), (1.0, C - 1)):
        assert numpy(cell.predict(ops.convert_to_tensor(output[:1]), ops.convert_to_tensor([draw])))[0, 0] == last


def test_coins_fall_as_the_schedule_says_and_for_each_row_and_step(rng):
    decoder, *_ = parts(rng, GRUCell(U), 0.3, seed=1)
    _, drawn = decoder.cell.begin(100, D, 200, training=True)
    teacher = numpy(drawn["teacher"])  # (T, B)
    assert teacher.mean() == pytest.approx(0.3, abs=0.02)
    assert teacher.mean(axis=0).std() == pytest.approx((0.21 / 200) ** 0.5, rel=0.3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (InverseSigmoidDecay(2.0), lambda i: 2 / (2 + np.exp(i / 2))),
        (
            keras.optimizers.schedules.PolynomialDecay(1.0, 10, end_learning_rate=0.25),
            lambda i: 1 - 0.75 * min(i, 10) / 10,
        ),
        (keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.9), lambda i: 0.9**i),
    ],
    ids=["inverse_sigmoid", "linear", "exponential"],
)
def test_it_anneals_inside_fit(rng, schedule, expected):
    inputs = keras.Input((STEPS,), dtype="int32")
    embedding, projection = keras.layers.Embedding(C, D), keras.layers.Dense(C)
    cell = ScheduledSamplingCell(GRUCell(U), embedding, projection, schedule, seed=0)
    model = keras.Model(inputs, projection(Recurrent(cell, return_sequences=True)(embedding(inputs))))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = rng.integers(0, C, (8, STEPS))
    seen = []
    for _ in range(12):
        seen.append(float(cell.probability()))
        model.fit(ids[:2], ids[:2], verbose=0)
    np.testing.assert_allclose(seen, [expected(i) for i in range(12)], rtol=1e-5)
    model.fit(ids, ids, batch_size=2, epochs=3, verbose=0, validation_data=(ids, ids))
    assert int(numpy(cell.training_steps)) == 24  # validation does not count


@pytest.mark.tensorflow_only
def test_xla_computes_the_same_and_static_shapes_suffice(rng):
    import tensorflow as tf

    decoder, *_, memory = parts(rng, attending(), 0.5, seed=3)
    inputs = normal(rng, B, STEPS, D)
    # XLA's random numbers are others than those of the kernels: both toss the same coins here.
    drawn = {"teacher": rng.random((STEPS, B)) < 0.5, "draw": rng.random((STEPS, B)).astype("float32")}
    within = decoder.cell.begin(B, D, STEPS, decoder.cell.prepare_memory(memory["memory"]), training=False)[0]
    decoder.cell.begin = lambda *_: [within, {name: tf.constant(value) for name, value in drawn.items()}]
    results = []
    for jit_compile in (True, False):
        run = tf.function(lambda x: decoder(x, training=True, **memory)[0], jit_compile=jit_compile)
        results.append(run(tf.constant(inputs)))
    close(*results)


def test_a_saved_model_shares_its_embedding_still_and_goes_on_annealing(rng, tmp_path):
    inputs = keras.Input((STEPS,), dtype="int32")
    embedding, projection = keras.layers.Embedding(C, D), keras.layers.Dense(C)
    cell = ScheduledSamplingCell(GRUCell(U), embedding, projection, InverseSigmoidDecay(5.0), seed=0)
    model = keras.Model(inputs, projection(Recurrent(cell, return_sequences=True)(embedding(inputs))))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = rng.integers(0, C, (4, STEPS))
    model.fit(ids, ids, batch_size=2, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    close(loaded(ids), model(ids))
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    recurrent = next(layer for layer in loaded.layers if isinstance(layer, Recurrent))
    assert int(numpy(recurrent.cell.training_steps)) == 2
    assert float(recurrent.cell.probability()) == pytest.approx(float(cell.probability()))
    recurrent.cell.seed_generator.state.assign(numpy(cell.seed_generator.state))  # Keras saves no random states
    for one in (model, loaded):
        one.fit(ids, ids, batch_size=2, epochs=1, verbose=0, shuffle=False)
    for a, b in zip(model.trainable_weights, loaded.trainable_weights, strict=True):
        close(a, b)


@pytest.mark.parametrize("teacher_forcing", [-0.1, 1.5, "always", None])
def test_what_is_no_probability_is_refused(teacher_forcing):
    with pytest.raises(ValueError, match="`teacher_forcing` is a probability in \\[0, 1\\], or a schedule"):
        ScheduledSamplingCell(GRUCell(U), keras.layers.Embedding(C, D), keras.layers.Dense(C), teacher_forcing)
