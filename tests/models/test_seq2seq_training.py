"""Seq2Seq saved and loaded, trained, and what it can learn."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.models import Seq2Seq
from tests.models.small import (
    END,
    EVERY_ATTENTION,
    SOME_SETTINGS,
    START,
    B,
    C,
    M,
    T,
    U,
    V,
    logits,
    numpy,
    random_ids,
    small_model,
    sources,
    targets,
)


def batch(rng):
    """What a training step takes: inputs, next tokens, and the weights of the steps."""
    next_tokens = random_ids(rng, B, T, C, [T, 2, 4])
    return {"source": sources(rng), "target": targets(rng)}, next_tokens, (next_tokens != 0).astype("float32")


def compiled(model, **options):
    model.compile(keras.optimizers.Adam(0.01), SequenceCrossentropy(label_smoothing=0.1), **options)
    return model


# Saving


@SOME_SETTINGS
def test_a_model_comes_back_from_its_config(rng, settings):
    model, source, target = small_model(rng, **settings, dropout=0.2), sources(rng), targets(rng)
    again = Seq2Seq.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(logits(again, source, target), logits(model, source, target))


@SOME_SETTINGS
def test_a_saved_model_comes_back_and_trains_on_in_the_same_way(rng, settings, tmp_path):
    model, (x, y, weight) = compiled(small_model(rng, **settings), run_eagerly=True), batch(rng)
    model.train_on_batch(x, y, sample_weight=weight)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again, Seq2Seq)
    assert again.get_config() == model.get_config()
    np.testing.assert_array_equal(logits(again, **x), logits(model, **x))
    for _ in range(2):
        losses = [np.asarray(m.train_on_batch(x, y, sample_weight=weight)) for m in (model, again)]
        np.testing.assert_allclose(*losses, rtol=1e-5)
    np.testing.assert_allclose(logits(again, **x), logits(model, **x), rtol=1e-3, atol=1e-4)
    one, other = (m.generate(x["source"], T, START, END) for m in (model, again))
    np.testing.assert_array_equal(numpy(one.ids), numpy(other.ids))


@SOME_SETTINGS
def test_weights_alone_come_back_into_a_new_model(rng, settings, tmp_path):
    model, source, target = small_model(rng, **settings), sources(rng), targets(rng)
    model.save_weights(tmp_path / "model.weights.h5")
    again = Seq2Seq(V, C, units=U, embedding_dim=M, **settings)
    assert np.abs(logits(again, source, target) - logits(model, source, target)).max() > 0.01
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(logits(again, source, target), logits(model, source, target))


# Training


@pytest.mark.tensorflow_only
def test_a_training_step_is_the_same_with_and_without_xla(rng):
    plain = small_model(rng)
    fast = Seq2Seq.from_config(plain.get_config())
    fast.set_weights(plain.get_weights())
    compiled(plain, jit_compile=False), compiled(fast, jit_compile=True)
    x, y, weight = batch(rng)
    for _ in range(3):
        losses = [float(np.asarray(m.train_on_batch(x, y, sample_weight=weight))) for m in (plain, fast)]
        assert np.isfinite(losses).all()
        np.testing.assert_allclose(*losses, rtol=1e-4)
    for one, other in zip(plain.get_weights(), fast.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)  # a fifth of one step of Adam


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@EVERY_ATTENTION
def test_every_weight_is_trained_and_padding_trains_nothing(rng, policy, settings):
    model, (x, y, weight) = small_model(rng, dtype=policy, **settings), batch(rng)
    x["source"][1] = 0  # an empty source has finite gradients too
    model.compile(keras.optimizers.SGD(0.1), SequenceCrossentropy(), run_eagerly=True)
    before = [numpy(v) for v in model.trainable_variables]
    loss = model.train_on_batch(x, y, sample_weight=weight)
    assert np.isfinite(np.asarray(loss)).all()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.isfinite(numpy(variable)).all(), variable.path
        assert np.abs(numpy(variable) - old).max() > 0, f"{variable.path} has no gradient"
    embeddings = next(i for i, v in enumerate(model.trainable_variables) if v is model.encoder.embedding.embeddings)
    np.testing.assert_array_equal(numpy(model.encoder.embedding.embeddings)[0], before[embeddings][0])


# Learning

WORDS, LONGEST = 13, 9


def reversals(rng, number):
    """Sequences of up to nine of thirteen words, to be written backwards: sources, next tokens."""
    lengths = rng.integers(1, LONGEST + 1, size=number)
    source = random_ids(rng, number, LONGEST, WORDS + 3, lengths)
    next_tokens = np.zeros((number, LONGEST + 1), "int32")
    for row, length in enumerate(lengths):
        next_tokens[row, : length + 1] = [*source[row, :length][::-1], END]
    return source, next_tokens


def share_right_after_learning(rng, model, epochs):
    """Share of held-out sequences whose answers are right in every token."""
    source, next_tokens = reversals(rng, 4000)
    target = np.pad(next_tokens[:, :-1], ((0, 0), (1, 0)), constant_values=START)
    rate = keras.optimizers.schedules.CosineDecay(0.01, epochs * 4000 // 50)
    model.compile(keras.optimizers.Adam(rate), SequenceCrossentropy(), jit_compile=False)
    weight = (next_tokens != 0).astype("float32")
    x = {"source": source, "target": target}
    model.fit(x, next_tokens, sample_weight=weight, batch_size=50, epochs=epochs, verbose=0)

    source, next_tokens = reversals(rng, 500)
    answers = numpy(model.generate(source, LONGEST + 1, START, END).ids)
    return np.mean((answers == np.where(next_tokens == END, 0, next_tokens)).all(axis=1))


@pytest.mark.slow
@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "lstm", "attention": "general"},
        {"cell": "gru", "attention": "bahdanau", "attend": "before", "input_feeding": False},
    ],
    ids=["luong", "bahdanau"],
)
def test_it_learns_to_write_backwards(rng, settings):
    assert share_right_after_learning(rng, Seq2Seq(WORDS + 3, WORDS + 3, units=32, **settings), epochs=3) >= 0.95


@pytest.mark.slow
@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning")  # those of the attention
def test_without_what_attention_reads_it_learns_far_less(rng):
    model = Seq2Seq(WORDS + 3, WORDS + 3, units=32, cell="lstm", attention="general")
    attention = model.decoder_cell.attention
    attend = attention.attend

    def attend_to_nothing(*arguments, **options):
        context, scores, state = attend(*arguments, **options)
        return ops.zeros_like(context), scores, state

    attention.attend = attend_to_nothing
    assert share_right_after_learning(rng, model, epochs=3) < 0.6
