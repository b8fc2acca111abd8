"""`GPT`: decoding with caches, ragged prompts, saving. What it computes is compared in tests/checkpoints."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import Beam
from keras_seqattn.models import GPT
from tests.models.small import log_softmax, numpy

B, P, N, D, H, C = 3, 5, 6, 12, 3, 19
SETTINGS = [
    {"positions": "learned"},
    {"positions": "sinusoidal", "num_kv_heads": 1},
    {"positions": "rotary", "sliding_window": 4, "gated": True, "activation": "silu", "normalization": "rms"},
    {"positions": "alibi", "use_bias": False, "tie_output": False},
    {"positions": "relative"},
]
EVERY_SETTING = pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(settings["positions"]))
PROMPT_MASK = np.arange(P) < np.array([[5], [2], [1]])


def small_model(rng, **settings):
    model = GPT(C, P + N, **{"model_dim": D, "num_layers": 2, "num_heads": H, **settings})
    for weight in model.trainable_variables:
        weight.assign(0.5 * rng.normal(size=weight.shape))
    return model


def prompts(rng):
    return rng.integers(C, size=(B, P)).astype("int32")


def continued(model, prompt, steps):
    """What greedy search writes when the whole text is computed anew for each token."""
    ids = list(prompt)
    for _ in range(steps):
        ids.append(int(numpy(model(np.array([ids], "int32")))[0, -1].argmax()))
    return ids[len(prompt) :]


@EVERY_SETTING
def test_with_caches_it_writes_what_the_whole_model_would_whatever_the_prompts_length(rng, settings):
    model, prompt = small_model(rng, **settings), prompts(rng)
    found = numpy(model.generate(prompt, N, prompt_mask=PROMPT_MASK).ids)
    for row in range(B):
        assert found[row].tolist() == continued(model, prompt[row, : PROMPT_MASK[row].sum()], N)


def test_a_prompts_place_in_its_row_means_nothing(rng):
    model, prompt = small_model(rng, positions="learned"), prompts(rng)
    first = numpy(model.generate(prompt, N, prompt_mask=PROMPT_MASK).ids)
    turned = numpy(model.generate(np.roll(prompt, 2, axis=1), N, prompt_mask=np.roll(PROMPT_MASK, 2, axis=1)).ids)
    np.testing.assert_array_equal(first[1:], turned[1:])


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[2]], ids=lambda settings: settings["positions"])
def test_beams_carry_their_caches_along(rng, settings):
    model, prompt = small_model(rng, **settings), prompts(rng)
    found = model.generate(prompt, N, decoder=Beam(width=3, num_return=3))
    for beam in range(3):
        ids = numpy(found.ids)[:, beam]
        logits = numpy(model(np.concatenate([prompt, ids[:, :-1]], axis=1)))[:, P - 1 :]
        gained = np.take_along_axis(log_softmax(logits), ids[..., None], axis=-1)[..., 0].sum(axis=1)
        np.testing.assert_allclose(numpy(found.scores)[:, beam], gained, rtol=1e-4, atol=1e-4)


def test_it_ends_with_the_end_token(rng):
    model, prompt = small_model(rng, positions="alibi"), prompts(rng)
    free = numpy(model.generate(prompt, N).ids)
    end = int(free[0, 2])
    ended = model.generate(prompt, N, end_id=end)
    length = free[0].tolist().index(end)
    assert int(ended.lengths[0]) == length
    np.testing.assert_array_equal(numpy(ended.ids)[0], np.where(np.arange(N) < length, free[0], 0))


def test_hidden_states_are_those_that_the_logits_come_from(rng):
    model, prompt = small_model(rng, positions="learned"), prompts(rng)
    states = model.hidden_states(prompt)
    assert [tuple(state.shape) for state in states] == [(B, P, D)] * 3
    np.testing.assert_allclose(
        numpy(model.reader.embedding(states[-1], reverse=True)), numpy(model(prompt)), rtol=1e-5, atol=1e-5
    )


@EVERY_SETTING
def test_a_saved_model_comes_back_whole(rng, settings, tmp_path):
    model, prompt = small_model(rng, **settings), prompts(rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(numpy(loaded(prompt)), numpy(model(prompt)))


@pytest.mark.slow
def test_it_learns_a_rule_from_texts(rng):
    """Each number is the sum of the last two, mod 7: what follows is certain after two of them."""
    keras.utils.set_random_seed(0)
    texts = rng.integers(7, size=(2000, 12))
    for step in range(2, 12):
        texts[:, step] = (texts[:, step - 1] + texts[:, step - 2]) % 7
    sizes = {"model_dim": 32, "num_layers": 2, "num_heads": 4, "dropout": 0.0, "attention_dropout": 0.0}
    model = GPT(7, 12, **sizes, positions="rotary")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(texts[:, :-1], texts[:, 1:], batch_size=100, epochs=8, verbose=0)
    found = numpy(model.generate(texts[:100, :2], 10).ids)
    assert (found == texts[:100, 2:]).mean() > 0.9


def test_a_size_has_its_published_architecture():
    """124,439,808 weights, as counted by all who published GPT-2's smallest model."""
    with keras.device("cpu:0"):
        model = GPT.from_preset("gpt2-small")
    assert model.count_params() == 124_439_808
    assert (model.num_layers, model.num_heads, model.max_length) == (12, 12, 1024)
    assert GPT.from_preset("gpt2-small", num_layers=1, vocabulary_size=C).num_layers == 1
    with pytest.raises(ValueError, match="'gpt2-small', 'gpt2-medium'"):
        GPT.from_preset("gpt-5")


def test_prompts_that_cannot_be_continued_are_refused(rng):
    model, prompt = small_model(rng, positions="learned"), prompts(rng)
    with pytest.raises(ValueError, match="must hold at least one token"):
        model.generate(prompt[:, :0], N)
    with pytest.raises(ValueError, match=r"the model's 11. Received: a prompt of 5 tokens, max_length=8"):
        model.generate(prompt, N + 2)
    model.generate(prompt, N + 1)  # the last token is written, and not read


@pytest.mark.tensorflow_only
def test_one_trace_serves_prompts_of_every_length(rng):
    import tensorflow as tf

    model, prompt = small_model(rng, positions="rotary"), prompts(rng)
    signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None), tf.bool)]
    generate = tf.function(
        lambda ids, mask: model.generate(ids, N, prompt_mask=mask).ids, input_signature=signature, autograph=False
    )
    np.testing.assert_array_equal(
        generate(prompt, PROMPT_MASK), numpy(model.generate(prompt, N, prompt_mask=PROMPT_MASK).ids)
    )
    one = prompt[:, :1]
    np.testing.assert_array_equal(generate(one, np.ones((B, 1), bool)), numpy(model.generate(one, N).ids))


def test_ids_of_any_kind_are_taken(rng):
    model, prompt = small_model(rng, positions="learned"), prompts(rng)
    np.testing.assert_array_equal(
        numpy(model.generate(ops.convert_to_tensor(prompt, "int64"), 2).ids), numpy(model.generate(prompt, 2).ids)
    )
