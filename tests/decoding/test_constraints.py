"""Constraints, one by one against plain Python and Hugging Face, and within the decoders against plain searches."""

import json
from itertools import pairwise

import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import (
    Beam,
    Constraint,
    Greedy,
    MinLength,
    NoRepeatNgrams,
    Prefix,
    RepetitionPenalty,
    Sampling,
    SuppressTokens,
)
from keras_seqattn.decoding.constraints import tokens_so_far
from keras_seqattn.decoding.decoder import Decoder
from tests.decoding.languages import Language, arrays, assert_answer
from tests.decoding.search import beam_search, every_answer, greedy_search
from tests.reference import generation

B, V, T, S = 13, 5, 7, 3
WIDE, P = 23, 11  # a vocabulary and a prompt for one step alone
END = 1

RULES = [
    ("least", MinLength(3), generation.min_length(3)),
    ("rare", RepetitionPenalty(1.7), generation.repetition_penalty(1.7)),
    ("often", RepetitionPenalty(0.6), generation.repetition_penalty(0.6)),
    ("once", NoRepeatNgrams(1), generation.no_repeat_ngrams(1)),
    ("bigrams", NoRepeatNgrams(2), generation.no_repeat_ngrams(2)),
    ("trigrams", NoRepeatNgrams(3), generation.no_repeat_ngrams(3)),
    ("suppress", SuppressTokens([4, 0]), generation.suppress_tokens([4, 0])),
    ("prefix", Prefix([2, 0, 2]), generation.prefix([2, 0, 2])),
]
EACH = pytest.mark.parametrize(("constraint", "rule"), [pytest.param(*rest, id=name) for name, *rest in RULES])
DECODER = pytest.mark.parametrize("decoder", [Greedy, Beam, lambda **kwargs: Sampling(seed=5, **kwargs)], ids=range(3))
HARD = [one for one in RULES if one[0] not in ("rare", "often")]


def applied(constraint, logits, prompts, answers, length=T, beams=1):
    """What the constraint makes of logits (N, V) after prompts and answers, lists of tokens for each row."""
    ids = np.zeros((len(answers), length), "int32")
    time = len(answers[0])
    ids[:, :time] = answers
    width = max(map(len, prompts))
    prompt = {"ids": np.zeros((len(answers), width), "int32"), "mask": np.zeros((len(answers), width), bool)}
    for row, tokens in enumerate(prompts):
        prompt["ids"][row, : len(tokens)], prompt["mask"][row, : len(tokens)] = tokens, True
    aligned = Decoder([constraint]).prompt(ops.array(prompt["ids"]), ops.array(prompt["mask"]))["prompt"]
    so_far = tokens_so_far(ops.array(ids), time, END, aligned if width else None, beams)
    return ops.convert_to_numpy(constraint(ops.convert_to_tensor(logits), so_far))


@EACH
@pytest.mark.parametrize("time", [0, 1, 2, 6])
@pytest.mark.parametrize("prompt", [0, 2, P])
def test_a_step_is_what_its_rule_says(rng, constraint, rule, time, prompt):
    logits = rng.normal(size=(31, V)).astype("float32")
    prompts = rng.integers(0, V, (31, prompt)).tolist()
    answers = rng.integers(0, V, (31, time)).tolist()
    expected = [rule(*row, END) for row in zip(logits, prompts, answers, strict=True)]
    np.testing.assert_allclose(applied(constraint, logits, prompts, answers), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ngrams_of_ragged_prompts_reach_over_into_the_answer(rng, size):
    logits, rows = rng.normal(size=(61, 3)).astype("float32"), range(61)
    prompts = [rng.integers(0, 3, row % 7).tolist() for row in rows]
    answers = rng.integers(0, 3, (61, 3)).tolist()
    rule = generation.no_repeat_ngrams(size)
    expected = [rule(*row, END) for row in zip(logits, prompts, answers, strict=True)]
    np.testing.assert_array_equal(applied(NoRepeatNgrams(size), logits, prompts, answers), expected)


def hugging_face(name, *settings):
    """A class of transformers, called on NumPy's logits (N, V) and ids (N, L)."""
    processors = pytest.importorskip("transformers.generation.logits_process")
    torch = pytest.importorskip("torch")
    processor = getattr(processors, name)(*settings)
    return lambda logits, ids: processor(torch.tensor(ids), torch.tensor(logits)).numpy()


@pytest.mark.parametrize(
    ("constraint", "name", "settings"),
    [
        (RepetitionPenalty(1.3), "RepetitionPenaltyLogitsProcessor", (1.3,)),
        (RepetitionPenalty(0.7), "RepetitionPenaltyLogitsProcessor", (0.7,)),
        *((NoRepeatNgrams(size), "NoRepeatNGramLogitsProcessor", (size,)) for size in (1, 2, 3)),
        (MinLength(3), "MinNewTokensLengthLogitsProcessor", (P, 3, END)),
        (MinLength(4), "MinNewTokensLengthLogitsProcessor", (P, 4, END)),
        (SuppressTokens([2, 0]), "SuppressTokensLogitsProcessor", ([2, 0],)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
@pytest.mark.parametrize("num_tokens", [3, WIDE])
def test_hugging_face_makes_the_same_of_a_step(rng, constraint, name, settings, num_tokens):
    logits = rng.normal(size=(31, num_tokens)).astype("float32")
    prompts, answers = rng.integers(0, num_tokens, (31, P)), rng.integers(0, num_tokens, (31, 3))
    expected = hugging_face(name, *settings)(logits, np.concatenate([prompts, answers], axis=1))
    found = applied(constraint, logits, prompts.tolist(), answers.tolist())
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_prompt_may_be_padded_on_either_side(rng, side):
    language = Language(rng, B, V, T, S)
    lengths = rng.integers(1, P, B)
    prompts = [rng.integers(0, V, length) for length in lengths]
    ids, mask = np.full((B, P), 3), np.zeros((B, P), bool)
    for row, tokens in enumerate(prompts):
        place = slice(P - len(tokens), P) if side == "left" else slice(0, len(tokens))
        ids[row, place], mask[row, place] = tokens, True
    decoder = Greedy([NoRepeatNgrams(2), RepetitionPenalty(1.2)])
    found = language.decode(decoder, prompt_ids=ids, prompt_mask=mask)
    rules = [generation.no_repeat_ngrams(2), generation.repetition_penalty(1.2)]
    for row in range(B):
        assert_answer(found, row, obeying_greedy(language, row, rules, prompts[row].tolist()))


def obeying(language, row, rules, prompt=(), raw=False):
    """`log_probs(tokens)` of one row: the model's own, and minus infinity where a rule does not allow the token.

    With `raw`, the logits that the rules leave.
    """
    own = language.row(row)

    def log_probs(tokens):
        logits = language.logits[row, language.node(tokens)].astype("float64")
        for rule in rules:
            logits = rule(logits, list(prompt), list(tokens), language.end_id)
        return logits if raw else np.where(np.isneginf(logits), -np.inf, own(tokens))

    return log_probs


def obeying_greedy(language, row, rules, prompt=()):
    """Greedy search over the changed logits, with the model's own log-probability."""
    answer = greedy_search(obeying(language, row, rules, prompt, raw=True), language.max_length, language.end_id)
    return answer._replace(log_prob=language.log_prob(row, answer.tokens))


@EACH
def test_greedy_takes_the_likeliest_token_that_is_allowed(rng, constraint, rule):
    language = Language(rng, B, V, T, S)
    found, free = language.decode(Greedy([constraint])), language.decode(Greedy())
    for row in range(B):
        assert_answer(found, row, obeying_greedy(language, row, [rule]))
    assert (found.ids != free.ids).any()  # the rule is felt


@EACH
def test_a_beam_of_one_is_greedy_under_constraints(rng, constraint, rule):
    language = Language(rng, B, V, T, S)
    greedy, beam = language.decode(Greedy([constraint])), language.decode(Beam(1, constraints=[constraint]))
    for one, other in zip(beam, greedy, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("constraint", "rule"), [pytest.param(*rest, id=name) for name, *rest in HARD])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_beam_finds_what_a_search_among_the_allowed_finds(rng, constraint, rule, length_penalty):
    language = Language(rng, B, V, T, S)
    found = language.decode(Beam(4, length_penalty, num_return=2, constraints=[constraint]))
    for row in range(B):
        beams = beam_search(obeying(language, row, [rule]), T, language.end_id, 4, length_penalty)
        for place, answer in enumerate(beams[:2]):
            assert_answer(found, (row, place), answer, length_penalty)


@pytest.mark.parametrize("penalty", [1.4, 0.5])
def test_a_beam_ranks_by_what_the_repetition_penalty_leaves(rng, penalty):
    language = Language(rng, B, V, 4, S)
    found = language.decode(Beam(3, num_return=3, constraints=[RepetitionPenalty(penalty)]))
    rule = generation.repetition_penalty(penalty)
    for row in range(B):

        def ranks(tokens, row=row):  # the changed logits less the logarithm of the model's own normalizer
            own = language.logits[row, language.node(tokens)].astype("float64")
            return np.minimum(rule(own, [], list(tokens), 1) - np.log(np.exp(own).sum()), 0.0)

        for place, answer in enumerate(beam_search(ranks, 4, language.end_id, 3, 0.0)):
            own = answer._replace(log_prob=language.log_prob(row, answer.tokens))
            assert_answer(found, (row, place), own)


def test_wide_beams_are_an_exhaustive_search_among_all_that_is_allowed(rng):
    language = Language(rng, rows=7, num_tokens=3, max_length=4)
    constraints = [MinLength(2), NoRepeatNgrams(2)]
    rules = [generation.min_length(2), generation.no_repeat_ngrams(2)]
    found = language.decode(Beam(31, 0.6, num_return=31, constraints=constraints))
    for row in range(7):
        answers = every_answer(obeying(language, row, rules), 4, language.end_id, 0.6)
        assert 5 < len(answers) < 20
        for place, answer in enumerate(answers):
            assert_answer(found, (row, place), answer, 0.6)
        # There is no further answer, and the score says so.
        assert (found.scores[row, len(answers) :] < -1e28).all()
    assert np.isfinite(found.scores).all()


@DECODER
def test_each_row_begins_with_a_prefix_of_its_own(rng, decoder):
    language = Language(rng, B, V, T, S)
    ids, mask = rng.integers(2, V, (B, 5)), np.arange(5) < rng.integers(0, 6, (B, 1))
    found = language.decode(decoder(constraints=[Prefix(ids, mask)]))
    for row in range(B):
        assert found.ids[row, :5][mask[row]].tolist() == ids[row][mask[row]].tolist()
    rest = [language.decode(decoder(constraints=[Prefix(x, mask)])).ids for x in (ids, np.where(mask, ids, 9999))]
    np.testing.assert_array_equal(*rest)  # what is masked counts for nothing


def test_a_beam_with_prefixes_finds_the_best_ways_to_go_on(rng):
    language = Language(rng, B, V, T, S)
    ids, lengths = rng.integers(2, V, (B, 3)), rng.integers(0, 4, B)
    constraint = Prefix(ids, np.arange(3) < lengths[:, None])
    found = language.decode(Beam(4, num_return=3, constraints=[constraint]))
    for row in range(B):
        rule = generation.prefix(ids[row, : lengths[row]].tolist())
        beams = beam_search(obeying(language, row, [rule]), T, language.end_id, 4, 0.0)
        for place, answer in enumerate(beams[:3]):
            assert_answer(found, (row, place), answer)


def test_a_prefix_may_leave_a_step_free_and_may_end():
    def step(ids, state, time):
        return ops.tile(ops.array([[0.0, 1, 2, 3]]), (ops.shape(ids)[0], 1)), state, None

    constraint = Prefix([[1, 0, 1, 2], [1, 0, 1, 1]], [[True, False, True, True]] * 2)
    found = arrays(Greedy([constraint])(step, [], ops.array([0, 0]), 6, end_id=2))
    assert found.ids.tolist() == [[1, 3, 1, 0, 0, 0], [1, 3, 1, 1, 3, 3]]
    assert found.lengths.tolist() == [3, 6]
    assert Greedy([Prefix(np.zeros((2, 0), int))])(step, [], ops.array([0, 0]), 1, end_id=2).ids.shape == (2, 1)


def test_the_prompt_counts_for_each_beam_of_its_sentence(rng):
    language = Language(rng, B, V, T, S)
    prompts = rng.integers(0, V, (B, 6))
    rules, constraints = [generation.no_repeat_ngrams(2)], [NoRepeatNgrams(2)]
    found = language.decode(Beam(3, num_return=2, constraints=constraints), prompt_ids=prompts)
    for row in range(B):
        log_probs = obeying(language, row, rules, prompts[row].tolist())
        for place, answer in enumerate(beam_search(log_probs, T, language.end_id, 3, 0.0)[:2]):
            assert_answer(found, (row, place), answer)


def test_samples_obey(rng):
    language = Language(rng, 61, V, T, S)
    constraints = [MinLength(4), NoRepeatNgrams(2), SuppressTokens([0])]
    found = language.decode(Sampling(temperature=3.0, seed=3, constraints=constraints))
    assert (found.lengths >= 4).all()
    assert len({*map(tuple, found.ids.tolist())}) > 20
    for row, length in zip(found.ids.tolist(), found.lengths, strict=True):
        tokens = row[:length]
        assert 0 not in tokens
        pairs = list(pairwise(tokens))
        assert len(pairs) == len(set(pairs))


@DECODER
def test_where_nothing_is_allowed_the_answer_ends_and_its_score_says_so(rng, decoder):
    language = Language(rng, B, V, T, S)
    found = language.decode(decoder(constraints=[NoRepeatNgrams(1), MinLength(6)]))  # four tokens, and the end
    assert (found.lengths == 4).all()
    assert [sorted(row[:4]) for row in found.ids.tolist()] == [[0, 2, 3, 4]] * B
    assert (found.scores < -1e29).all()
    assert np.isfinite(found.scores).all()


def test_a_function_is_a_constraint_too(rng):
    language = Language(rng, B, V, T, S)

    def never_three(logits, so_far):
        return ops.where(ops.equal(ops.arange(V), 3), -np.inf, logits)

    one, other = (language.decode(Greedy([x])) for x in (never_three, SuppressTokens([3])))
    np.testing.assert_array_equal(one.ids, other.ids)


def test_constraints_act_in_their_order(rng):
    logits = np.array([[1.0, 2.0, -3.0]], "float32")
    seen = []

    class Watch(Constraint):
        def __call__(self, logits, so_far):
            seen.append(ops.convert_to_numpy(logits))
            return logits

    decoder = Greedy([Watch(), SuppressTokens([1]), Watch()])
    decoder(lambda ids, state, time: (ops.array(logits), state, None), [], ops.array([0]), 1, 2)
    np.testing.assert_array_equal(seen, [[[1, 2, -3]], [[1, -np.inf, -3]]])


@pytest.mark.parametrize("decoder", [Greedy(), Sampling(seed=1), Beam(2)], ids=range(3))
def test_without_constraints_no_prompt_is_carried_along(rng, decoder):
    language = Language(rng, B, V, T, S)
    prompts = np.zeros((B, 3), "int32")
    with_prompt, without = (
        decoder.start(language.step, language.state(), language.start_ids, T, END, **prompt)
        for prompt in ({"prompt_ids": prompts}, {})
    )
    assert set(with_prompt) == set(without)


@pytest.mark.parametrize(
    "decoder",
    [
        Greedy([MinLength(2), Prefix([1, 2]), SuppressTokens(np.array([3])), lambda logits, so_far: logits]),
        Beam(3, 0.6, 2, 0.2, [NoRepeatNgrams(3)]),
        Sampling(0.7, 5, 0.9, 11, [RepetitionPenalty(1.2)]),
    ],
    ids=range(3),
)
def test_settings_are_plain_json(decoder):
    config = decoder.get_config()
    assert json.loads(json.dumps(config)) == config
    assert len(config["constraints"]) == len(decoder.constraints)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MinLength(-1), r"`length` is a number of tokens.*at least 0\. Received: length=-1"),
        (lambda: MinLength(1.5), r"`length` is a number of tokens.*Received: length=1\.5"),
        (lambda: RepetitionPenalty(0), r"`penalty` must be a number above 0.*Received: penalty=0"),
        (lambda: RepetitionPenalty(-1.2), r"`penalty` must be a number above 0.*Received: penalty=-1\.2"),
        (lambda: RepetitionPenalty(float("nan")), r"`penalty` must be a number above 0.*Received: penalty=nan"),
        (lambda: NoRepeatNgrams(0), r"`size` is a number of tokens.*at least 1\. Received: size=0"),
        (lambda: NoRepeatNgrams(2.0), r"`size` is a number of tokens.*Received: size=2\.0"),
        (lambda: SuppressTokens([]), r"`ids` are the tokens to suppress.*Received: ids=\[\]"),
        (lambda: SuppressTokens([-1]), r"`ids` are the tokens to suppress.*Received: ids=\[-1\]"),
        (lambda: SuppressTokens([0.5]), r"`ids` are the tokens to suppress.*Received: ids=\[0\.5\]"),
        (lambda: Prefix(3), r"`ids` are the tokens that begin each answer.*Received: ids of shape \(\)"),
        (lambda: Prefix([[[3]]]), r"`ids` are the tokens that begin.*Received: ids of shape \(1, 1, 1\)"),
        (lambda: Prefix([[3]], [True]), r"`mask` tells of each of `ids`.*mask of shape \(1,\)"),
        (lambda: Greedy(MinLength(3)), r"`constraints` is a sequence.*Received: constraints=.*MinLength"),
        (lambda: Greedy([3]), r"`constraints` is a sequence.*Received: constraints=\[3\]"),
        (lambda: Beam(constraints=["min"]), r"`constraints` is a sequence.*Received: constraints=\['min'\]"),
        (lambda: Sampling(constraints=None), r"`constraints` is a sequence.*Received: constraints=None"),
    ],
)
def test_settings_out_of_range_raise(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("decoder", [Greedy, Beam, Sampling], ids=range(3))
@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (MinLength(8), r"`length` of `MinLength` must not be above.*Received: length=8, max_length=7"),
        (Prefix(np.zeros((B, 8), int)), r"`ids` of `Prefix` must not be more.*shape \(13, 8\), max_length=7"),
        (SuppressTokens([2, V]), r"`ids` of `SuppressTokens` must be below.*5\. Received: ids=\[2, 5\]"),
    ],
)
def test_what_no_answer_can_obey_raises(rng, decoder, constraint, words):
    with pytest.raises(ValueError, match=words):
        Language(rng, B, V, T, S).decode(decoder(constraints=[constraint]))


@pytest.mark.parametrize("decoder", [Greedy(), Beam(2), Sampling(), Greedy([MinLength(1)])], ids=range(4))
@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"prompt_ids": np.zeros((B,))}, r"`prompt_ids` and `prompt_mask`.*prompt_ids of shape \(13,\)"),
        ({"prompt_ids": np.zeros((B, 2)), "prompt_mask": np.ones((2,))}, r"prompt_mask of shape \(2,\)"),
        ({"prompt_mask": np.ones((B, 2))}, r"`prompt_mask` tells of `prompt_ids`.*prompt_ids=None"),
    ],
)
def test_a_prompt_of_the_wrong_shape_raises(rng, decoder, prompt, words):
    with pytest.raises(ValueError, match=words):
        Language(rng, B, V, T, S).decode(decoder, **prompt)
