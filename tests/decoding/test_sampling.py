"""Sampling: which tokens may be drawn, how often they are, and that chance can be repeated and is not frozen."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import Greedy, MinLength, NoRepeatNgrams, RepetitionPenalty, Sampling
from tests.decoding.languages import Language, answer_at, arrays
from tests.reference import generation

B, V, T, S = 31, 5, 4, 3
VOCABULARY = 23
END = 1


class KnownNoise(Sampling):
    """Takes its noise from a table (T, B, V) by step, row and token."""

    def __init__(self, table, **settings):
        super().__init__(**settings)
        self.table = table

    def noise(self, tokens, time, seed):
        now = ops.take(ops.convert_to_tensor(self.table), time, axis=0)  # (B, V)
        return ops.take_along_axis(now, tokens, axis=1)


@pytest.fixture
def language(rng):
    return Language(rng, B, V, T, S)


def drawn(logits, rows, **settings):
    """Tokens (N,) drawn in one step for `rows` rows of the same logits (V,)."""

    def step(ids, state, time):
        return ops.tile(ops.array(logits, "float32")[None], (rows, 1)), state, None

    found = Sampling(**settings)(step, [], ops.zeros((rows,), "int32"), 1, end_id=-1)
    return ops.convert_to_numpy(found.ids)[:, 0]


def test_a_low_temperature_and_a_top_k_of_one_are_greedy(language):
    greedy = language.decode(Greedy())
    for settings in ({"temperature": 1e-4}, {"temperature": 1e-300}, {"top_k": 1}, {"top_p": 1e-6}):
        for one, other in zip(language.decode(Sampling(seed=3, **settings)), greedy, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("settings", [{"top_k": V}, {"top_k": 10 * V}, {"top_p": 1.0}, {"top_p": 1}])
def test_filters_that_leave_everything_are_none(language, rng, settings):
    table = rng.gumbel(size=(T, B, V)).astype("float32")
    for one, other in zip(
        language.decode(KnownNoise(table, **settings)), language.decode(KnownNoise(table)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (3, None), (None, 0.6), (4, 0.8), (None, 0.999)])
def test_only_the_kept_tokens_are_drawn_and_as_often_as_they_are_likely(rng, temperature, top_k, top_p):
    logits, number = rng.normal(size=7).astype("float32"), 20000
    counts = np.bincount(drawn(logits, number, temperature=temperature, top_k=top_k, top_p=top_p, seed=5), minlength=7)
    kept = generation.kept_tokens(logits, temperature, top_k, top_p)
    assert set(np.flatnonzero(counts)) == set(kept)
    probs = np.zeros(7)
    probs[kept] = np.exp(logits[kept] / temperature)
    probs /= probs.sum()
    deviation = np.sqrt(probs * (1 - probs) / number)
    assert (np.abs(counts / number - probs) <= 4.5 * deviation).all()


def test_the_nucleus_is_the_smallest_set_even_among_equals():
    assert len(set(drawn(np.zeros(10), 500, top_p=0.55, seed=1))) == 6
    assert len(set(drawn(np.log([0.5, 0.25, 0.125, 0.125]), 500, top_p=0.5, seed=1))) == 1


@pytest.mark.parametrize("settings", [{}, {"top_k": 4}, {"top_p": 0.7}])
def test_steps_and_rows_are_drawn_independently(settings):
    def step(ids, state, time):
        return ops.zeros((100, 4)), state, None

    found = Sampling(seed=9, **settings)(step, [], ops.zeros((100,), "int32"), 101, end_id=-1)
    ids = ops.convert_to_numpy(found.ids)  # (B, T)
    tokens = len(set(ids.flatten()))
    for one, next_one in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        pairs = np.bincount((one * 4 + next_one).flatten(), minlength=16) / one.size
        np.testing.assert_allclose(pairs[pairs > 0], 1 / tokens**2, atol=0.012)


def test_noise_is_gumbels(rng):
    tokens = ops.zeros((1000, 101), "int32")
    noise = ops.convert_to_numpy(Sampling().noise(tokens, 3, Sampling(seed=2).first_seed()))
    assert np.isfinite(noise).all()
    np.testing.assert_allclose(noise.mean(), np.euler_gamma, atol=0.02)
    np.testing.assert_allclose(noise.var(), np.pi**2 / 6, rtol=0.02)


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 1.3, "top_k": 9, "top_p": 0.7}],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_hugging_face_draws_the_same_from_the_same_noise(rng, settings):
    """A whole generation from a table of trigram logits, with prompts, through transformers' processors."""
    hugging = pytest.importorskip("transformers.generation.logits_process")
    torch = pytest.importorskip("torch")
    rows, length, before = 17, 19, 7
    table = (2 * rng.normal(size=(VOCABULARY, VOCABULARY, VOCABULARY))).astype("float32")
    noise = rng.gumbel(size=(length, rows, VOCABULARY)).astype("float32")
    prompts = rng.integers(2, VOCABULARY, (rows, before))

    # The order in which `generate` of transformers puts them together.
    processors = [
        hugging.RepetitionPenaltyLogitsProcessor(1.2),
        hugging.NoRepeatNGramLogitsProcessor(2),
        hugging.MinNewTokensLengthLogitsProcessor(before, 5, END),
        hugging.TemperatureLogitsWarper(float(settings.get("temperature", 1.0))),
        *([hugging.TopKLogitsWarper(settings["top_k"])] if "top_k" in settings else []),
        *([hugging.TopPLogitsWarper(settings["top_p"])] if "top_p" in settings else []),
    ]
    expected, ended = torch.tensor(prompts), np.zeros(rows, bool)
    lengths, scores = np.zeros(rows, int), np.zeros(rows)
    for time in range(length):
        own = torch.tensor(table[expected[:, -2], expected[:, -1]])
        left = hugging.LogitsProcessorList(processors)(expected, own)
        chosen = torch.argmax(torch.log_softmax(left, -1) + torch.tensor(noise[time]), dim=-1)
        gain = torch.log_softmax(own, -1).gather(1, chosen[:, None])[:, 0].numpy()
        scores += np.where(ended, 0, gain)
        ended |= chosen.numpy() == END
        lengths += ~ended
        expected = torch.cat([expected, chosen[:, None]], dim=1)

    def step(ids, state, time):
        place = state * VOCABULARY + ids  # the last two tokens
        return ops.take(ops.reshape(ops.array(table), (-1, VOCABULARY)), place, axis=0), ids, None

    decoder = KnownNoise(table=noise, **settings)
    decoder.constraints = (RepetitionPenalty(1.2), NoRepeatNgrams(2), MinLength(5))
    state = ops.array(prompts[:, -2], "int32")
    found = arrays(decoder(step, state, prompts[:, -1], length, END, prompt_ids=prompts))
    assert lengths.min() >= 5
    assert len(set(lengths)) > 1
    np.testing.assert_array_equal(found.lengths, lengths)
    for row in range(rows):
        np.testing.assert_array_equal(found.ids[row, : lengths[row]], expected[row, before : before + lengths[row]])
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0, "top_k": 3}, {"top_p": 0.7}])
def test_scores_are_the_models_own_log_probabilities(language, settings):
    found = language.decode(Sampling(seed=11, **settings))
    for row in range(B):
        answer = answer_at(found, row, lambda tokens, row=row: language.log_prob(row, tokens), language.end_id)
        np.testing.assert_allclose(found.scores[row], answer.log_prob, rtol=1e-5, atol=1e-6)


def test_an_integer_seed_gives_the_same_answers_and_another_gives_others(language):
    decoder = Sampling(temperature=3.0, seed=7)
    one, again, other = (language.decode(x).ids for x in (decoder, decoder, Sampling(temperature=3.0, seed=8)))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    np.testing.assert_array_equal(one, language.decode(Sampling(temperature=3.0, seed=7)).ids)


def test_without_a_seed_each_call_gives_new_answers(language):
    decoder = Sampling(temperature=3.0)
    assert (language.decode(decoder).ids != language.decode(decoder).ids).any()


def test_set_random_seed_repeats_a_run(language):
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        decoder = Sampling(temperature=3.0)
        runs.append([language.decode(decoder).ids for _ in range(2)])
    np.testing.assert_array_equal(*runs)


def test_a_seed_generator_gives_new_answers_at_each_call_and_the_same_in_each_run(language):
    runs = []
    for _ in range(2):
        decoder = Sampling(temperature=3.0, seed=keras.random.SeedGenerator(5))
        runs.append([language.decode(decoder).ids for _ in range(2)])
    np.testing.assert_array_equal(*runs)
    assert (runs[0][0] != runs[0][1]).any()


def test_consecutive_calls_of_a_generator_share_no_noise():
    """Its counter goes up by one at each call, as a step's number does: taken as it is, they would overlap."""
    decoder = Sampling(seed=keras.random.SeedGenerator(5))
    tokens = ops.zeros((3, 7), "int32")
    noises = []
    for _ in range(5):
        seed = decoder.first_seed()
        noises += [ops.convert_to_numpy(decoder.noise(tokens, time, seed)).tobytes() for time in range(6)]
    assert len(set(noises)) == 30


def test_infinite_and_large_logits_do_no_harm():
    logits = np.array([-np.inf, 6e4, -1e9, 6e4, -np.inf], "float32")
    for settings in (
        {},
        {"top_k": 4},
        {"top_p": 0.9},
        {"temperature": 1e-30},
        {"temperature": 1e30},
        {"temperature": 1e30, "top_k": 2},
    ):
        ids = drawn(logits, 200, seed=1, **settings)
        allowed = {1, 3} if settings.get("temperature", 1) <= 1 or "top_k" in settings else {1, 2, 3}
        assert set(ids) <= allowed, settings


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("top_k", [None, 4])
def test_in_a_graph_chance_is_neither_lost_nor_frozen(language, jit_compile, top_k):
    import tensorflow as tf

    def graph(decoder):
        @tf.function(jit_compile=jit_compile, autograph=False)
        def decode(start_ids):
            return decoder(language.step, language.state(), start_ids, T, language.end_id)

        return lambda: arrays(decode(tf.constant(language.start_ids)))

    seeded, free = (Sampling(temperature=3.0, top_k=top_k, seed=seed) for seed in (7, None))
    decode = graph(seeded)
    for one, again, eager in zip(decode(), decode(), language.decode(seeded), strict=True):
        np.testing.assert_array_equal(one, again)
        if not jit_compile:  # XLA's generator is another one
            np.testing.assert_allclose(one, eager, rtol=1e-5, atol=1e-6)
    decode = graph(free)
    assert (decode().ids != decode().ids).any()


@pytest.mark.tensorflow_only
def test_a_saved_model_draws_anew_unless_it_has_a_seed(language, tmp_path):
    import tensorflow as tf

    class Served(tf.Module):
        def __init__(self, **settings):
            super().__init__()
            self.decoder = Sampling(temperature=3.0, **settings)
            seed = settings.get("seed")
            self.tracked = seed.state.value if isinstance(seed, keras.random.SeedGenerator) else None

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32)], autograph=False)
        def decode(self, rows):
            state = {"row": rows, "node": tf.zeros_like(rows)}
            return self.decoder(language.step, state, tf.fill(tf.shape(rows), V + 1), T, END)._asdict()

    def saved(name, **settings):
        tf.saved_model.save(Served(**settings), str(tmp_path / name))
        loaded = tf.saved_model.load(str(tmp_path / name))
        return [loaded.decode(tf.range(B))["ids"].numpy() for _ in range(2)]

    one, two = saved("free")
    assert (one != two).any()
    one, two = saved("seeded", seed=7)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, language.decode(Sampling(temperature=3.0, seed=7)).ids)
    one, two = saved("generated", seed=keras.random.SeedGenerator(7))
    assert (one != two).any()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax.jit compiles for JAX alone")
def test_jax_jit_wants_a_seed_and_draws_the_same(language):
    import jax

    def decode(seed):
        @jax.jit
        def decode(start_ids):
            decoder = Sampling(temperature=3.0, seed=seed)
            return tuple(decoder(language.step, language.state(), start_ids, T, language.end_id))

        return decode(language.start_ids)

    np.testing.assert_array_equal(decode(7)[0], language.decode(Sampling(temperature=3.0, seed=7)).ids)
    with pytest.raises(ValueError, match="SeedGenerator"):
        decode(None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        *(({"temperature": x}, "`temperature` must be a number above 0") for x in (0, -1.0, float("nan"), True, "1")),
        ({"temperature": float("inf")}, "`temperature` must be a number above 0"),
        *(({"top_k": x}, "`top_k` is a number of tokens") for x in (0, -3, 2.0, True)),
        *(({"top_p": x}, "`top_p` is a probability above 0") for x in (0, 0.0, -0.1, 1.01, float("nan"), True)),
        *(({"seed": x}, "`seed` is an integer") for x in (1.5, "7", True)),
    ],
)
def test_settings_out_of_range_raise(settings, words):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=rf"{words}.*Received: {name}={value!r}"):
        Sampling(**settings)
