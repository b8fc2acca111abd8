"""`Bert`: its heads, its masks, saving. What it computes is compared in tests/checkpoints."""

import keras
import numpy as np
import pytest

from keras_seqattn.models import Bert
from tests.models.small import numpy, random_ids

B, T, D, H, C, K = 3, 5, 12, 3, 19, 7
SIZES = {"vocabulary_size": C, "max_length": 11, "model_dim": D, "num_layers": 2, "num_heads": H}
HEADS = {
    None: ({}, (B, T, D)),
    "masked_words": ({}, (B, T, C)),
    "sequence": ({"num_classes": K}, (B, K)),
    "tokens": ({"num_classes": K}, (B, T, K)),
}
EVERY_HEAD = pytest.mark.parametrize("head", HEADS, ids=str)


def small_model(rng, head=None, **settings):
    model = Bert(**SIZES, head=head, **HEADS[head][0], **settings)
    for weight in model.trainable_variables:
        weight.assign(0.3 * rng.normal(size=weight.shape) + ("gamma" in weight.path))
    return model


def texts(rng):
    ids = random_ids(rng, B, T, C, [T, 2, 3])
    return {"ids": ids, "segment_ids": (np.arange(T) > 1).astype("int32") * (ids > 0)}


@EVERY_HEAD
def test_a_head_gives_what_it_is_for(rng, head):
    model, text = small_model(rng, head), texts(rng)
    assert tuple(model(text).shape) == HEADS[head][1]
    zeros = {**text, "segment_ids": np.zeros((B, T), "int32")}
    np.testing.assert_array_equal(numpy(model({"ids": text["ids"]})), numpy(model(zeros)))
    assert np.abs(numpy(model(text)) - numpy(model(zeros))).max() > 1e-3


@EVERY_HEAD
def test_padding_counts_for_nothing(rng, head):
    model, text = small_model(rng, head), texts(rng)
    whole, short = numpy(model(text))[1:2], numpy(model({name: x[1:2, :2] for name, x in text.items()}))
    np.testing.assert_allclose(whole if head == "sequence" else whole[:, :2], short, rtol=1e-4, atol=1e-5)


def test_masked_steps_are_those_of_all_steps(rng):
    model, text = small_model(rng, "masked_words"), texts(rng)
    steps = np.array([[0, 4], [1, 0], [2, 2]], "int32")
    expected = np.take_along_axis(numpy(model(text)), steps[..., None], axis=1)
    np.testing.assert_allclose(numpy(model({**text, "masked_steps": steps})), expected, rtol=1e-5, atol=1e-5)


@EVERY_HEAD
def test_a_saved_model_comes_back_whole(rng, head, tmp_path):
    model, text = small_model(rng, head), texts(rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(numpy(loaded(text)), numpy(model(text)))


def test_hidden_states_end_with_the_outputs(rng):
    model, text = small_model(rng), texts(rng)
    states = model.hidden_states(**text)
    assert len(states) == 3
    np.testing.assert_allclose(numpy(states[-1]), numpy(model(text)), rtol=1e-5, atol=1e-6)


def test_one_step_of_training_moves_every_weight_of_every_head(rng):
    for head in ("masked_words", "sequence", "tokens"):
        model, text = small_model(rng, head, dropout=0.0, attention_dropout=0.0), texts(rng)
        outputs = model(text)
        before = [numpy(weight) for weight in model.trainable_variables]
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(text, rng.integers(K, size=outputs.shape[:-1]), verbose=0)
        moved = {
            weight.path
            for weight, old in zip(model.trainable_variables, before, strict=True)
            if np.abs(numpy(weight) - old).max() > 0
        }
        still = {weight.path for weight in model.trainable_variables} - moved
        assert all("key/bias" in path for path in still), still  # which moves all logits of a query alike


def test_a_size_has_its_published_architecture():
    """109,482,240 weights with the pooler, as published; without it 108,891,648."""
    assert Bert.from_preset("bert-base").count_params() == 109_482_240 - 768 * 768 - 768


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "words"}, "`head` must be one of None, 'masked_words', 'sequence', 'tokens'"),
        ({"head": "tokens"}, "`num_classes` must be an integer of at least 1"),
        ({"num_classes": 3}, "`num_classes` goes with the heads"),
        ({"model_dim": 10}, "`num_heads` must divide `model_dim`"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Bert(**{**SIZES, **settings})


def test_a_text_longer_than_its_positions_is_refused(rng):
    with pytest.raises(ValueError, match="12 steps, max_length=11"):
        small_model(rng)({"ids": np.ones((1, 12), "int32")})
