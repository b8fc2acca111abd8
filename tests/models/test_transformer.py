"""`Transformer`: training, decoding and saving."""

import keras
import numpy as np
import pytest

from keras_seqattn.decoding import Beam
from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.models import Transformer
from tests.models.small import START, log_softmax, logits, numpy, random_ids, shifted

B, T, S, D, H, V, C = 3, 5, 7, 12, 3, 17, 19
NEVER = 20  # an end token that no vocabulary has
SETTINGS = [
    {"positions": "sinusoidal"},
    {"positions": "learned", "max_length": 9, "normalize_first": True},
    {"positions": "rotary", "normalize_first": True, "activation": "silu", "gated": True, "normalization": "rms"},
    {"positions": "alibi", "num_kv_heads": 1, "tie_output": False},
    {"positions": "relative", "num_decoder_layers": 1, "sliding_window": 3},
    {"positions": None, "feed_forward_dim": 5},
]
EVERY_SETTING = pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(settings["positions"]))


def small_model(rng, **settings):
    settings = {"model_dim": D, "num_heads": H, **settings}
    model = Transformer(V, C, num_layers=2, **settings)
    for weight in model.trainable_variables:
        weight.assign(
            0.4 * rng.normal(size=weight.shape) + (1 if "gamma" in weight.path or "scale" in weight.path else 0)
        )
    return model


def sources(rng):
    return random_ids(rng, B, S, V, [S, 2, 5])


@EVERY_SETTING
def test_greedy_decoding_with_caches_writes_what_the_whole_model_would(rng, settings):
    model, source = small_model(rng, **settings), sources(rng)
    decoded = model.generate(source, T, START, NEVER)
    ids = numpy(decoded.ids)
    whole = logits(model, source, shifted(ids))
    whole[..., 0] = -1e9  # padding is no answer
    np.testing.assert_array_equal(whole.argmax(-1), ids)
    gained = np.take_along_axis(log_softmax(whole), ids[..., None], axis=-1)[..., 0].sum(axis=1)
    np.testing.assert_allclose(numpy(decoded.scores), gained, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(numpy(decoded.attention), numpy(model.align(source, shifted(ids))), atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS[1:4], ids=lambda settings: settings["positions"])
def test_beams_share_the_memory_and_carry_their_caches_along(rng, settings):
    model, source = small_model(rng, **settings), sources(rng)
    found = model.generate(source, T, START, NEVER, decoder=Beam(width=4, num_return=4))
    for beam in range(4):
        ids = numpy(found.ids)[:, beam]
        whole = logits(model, source, shifted(ids))
        whole[..., 0] = -1e9
        gained = np.take_along_axis(log_softmax(whole), ids[..., None], axis=-1)[..., 0].sum(axis=1)
        np.testing.assert_allclose(numpy(found.scores)[:, beam], gained, rtol=1e-4, atol=1e-4)
        alignment = numpy(model.align(source, shifted(ids)))
        np.testing.assert_allclose(numpy(found.attention)[:, beam], alignment, atol=1e-5)
    one = model.generate(source, T, START, NEVER, decoder=Beam(width=1))
    np.testing.assert_array_equal(numpy(one.ids), numpy(model.generate(source, T, START, NEVER).ids))


def test_padding_of_the_source_counts_for_nothing(rng):
    model, source = small_model(rng, positions="sinusoidal"), sources(rng)
    target = random_ids(rng, B, T, C)
    np.testing.assert_allclose(
        logits(model, source, target)[1:2], logits(model, source[1:2, :2], target[1:2]), rtol=1e-4, atol=1e-4
    )


def test_later_words_of_the_target_change_nothing_before(rng):
    model, source, target = small_model(rng, positions="alibi"), sources(rng), random_ids(rng, B, T, C)
    later = target.copy()
    later[:, 3:] = 1
    np.testing.assert_allclose(
        logits(model, source, target)[:, :3], logits(model, source, later)[:, :3], rtol=1e-5, atol=1e-5
    )


@EVERY_SETTING
def test_a_saved_model_comes_back_whole(rng, settings, tmp_path):
    model, source, target = small_model(rng, **settings), sources(rng), random_ids(rng, B, T, C)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(logits(loaded, source, target), logits(model, source, target))


def test_one_vocabulary_has_one_matrix(rng):
    model = Transformer(C, C, model_dim=8, num_heads=2, num_layers=1, share_embeddings=True)
    assert sum(weight.shape == (C, 8) for weight in model.weights) == 1
    with pytest.raises(ValueError, match="their vocabularies must have one size"):
        Transformer(V, C, model_dim=8, num_heads=2, num_layers=1, share_embeddings=True)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"rematerialize": True}, {"dtype": "mixed_bfloat16"}], ids=str)
def test_it_learns_to_turn_a_sequence_around(rng, options):
    """Chance would be one word in eight."""
    keras.utils.set_random_seed(0)
    words = rng.integers(3, 11, size=(2000, 5)).astype("int32")
    source, target = words, np.concatenate([words[:, ::-1], np.full((2000, 1), 2)], axis=1)
    model = Transformer(11, 11, model_dim=32, num_heads=4, num_layers=2, normalize_first=True, dropout=0.0, **options)
    model.compile(keras.optimizers.Adam(3e-3), SequenceCrossentropy(), jit_compile=False)
    model.fit({"source": source, "target": shifted(target)}, target, batch_size=100, epochs=7, verbose=0)
    answers = numpy(model.generate(source[:200], 6, START, 2).ids)[:, :5]
    assert (answers == words[:200, ::-1]).mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_dim": 10, "num_heads": 4}, "`num_heads` must divide `model_dim`"),
        ({"num_layers": 0}, "`num_layers` must be an integer of at least 1"),
        ({"positions": "wheel"}, "`positions` must be one of"),
        ({"positions": "learned"}, "`max_length` must be an integer"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Transformer(V, C, **settings)


def test_an_answer_longer_than_the_learned_positions_is_refused(rng):
    model = small_model(rng, positions="learned", max_length=9)
    with pytest.raises(ValueError, match="max_length=10, a model of max_length=9"):
        model.generate(sources(rng), 10, START, 2)


def test_sizes_have_names():
    model = Transformer.from_preset("transformer-tiny", source_vocabulary_size=V, target_vocabulary_size=C)
    assert (model.model_dim, model.num_layers, model.feed_forward_dim) == (128, 4, 256)
    with pytest.raises(ValueError, match="'transformer-tiny', 'transformer-base', 'transformer-big'"):
        Transformer.from_preset("transformer-huge")
