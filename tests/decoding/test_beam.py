import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import Beam, Greedy
from tests.decoding.languages import Language, answer_at, arrays, assert_answer
from tests.decoding.search import beam_search, every_answer
from tests.reference import generation

B, V, T, S = 31, 5, 4, 3
PENALTY = pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])


@pytest.fixture
def language(rng):
    return Language(rng, B, V, T, S)


@pytest.mark.parametrize("width", [1, 2, 3, 7])
@PENALTY
def test_it_finds_what_a_search_finds_that_never_stops_early(language, width, length_penalty):
    found = language.decode(Beam(width, length_penalty))
    for row in range(B):
        best = beam_search(language.row(row), T, language.end_id, width, length_penalty)[0]
        assert_answer(found, row, best, length_penalty)


@pytest.mark.parametrize(("width", "num_return"), [(3, 1), (3, 2), (3, 3), (7, 5)])
@PENALTY
def test_the_best_few_are_those_of_a_search_that_never_stops_early(language, width, num_return, length_penalty):
    found = language.decode(Beam(width, length_penalty, num_return=num_return))
    assert found.ids.shape == (B, num_return, T)
    for row in range(B):
        beams = beam_search(language.row(row), T, language.end_id, width, length_penalty)
        for place, answer in enumerate(beams[:num_return]):
            assert_answer(found, (row, place), answer, length_penalty)


@pytest.mark.parametrize("sharpness", [0.3, 4.0])
def test_early_stopping_is_right_in_flat_and_in_sharp_languages(rng, sharpness):
    language = Language(rng, B, V, T, S, sharpness=sharpness)
    found = language.decode(Beam(width=4, length_penalty=1.0, num_return=2))
    for row in range(B):
        for place, answer in enumerate(beam_search(language.row(row), T, language.end_id, 4, 1.0)[:2]):
            assert_answer(found, (row, place), answer, 1.0)


@PENALTY
@pytest.mark.parametrize("extra", [0, 6])
def test_beams_for_all_hypotheses_are_an_exhaustive_search(rng, length_penalty, extra):
    language = Language(rng, rows=7, num_tokens=3, max_length=4)
    number = len(every_answer(language.row(0), 4, language.end_id, length_penalty))
    assert number == 31  # 1 + 2 + 4 + 8 end with the end token, and 16 do not end; far more than the 3 tokens
    found = language.decode(Beam(number + extra, length_penalty, num_return=number + extra))
    for row in range(7):
        for place, answer in enumerate(every_answer(language.row(row), 4, language.end_id, length_penalty)):
            assert_answer(found, (row, place), answer, length_penalty)
    assert (found.scores[:, number:] < -1e28).all()  # there is no 32nd answer, and its score says so
    assert np.isfinite(found.scores).all()


@PENALTY
def test_a_beam_of_one_is_greedy(language, length_penalty):
    greedy, beam = language.decode(Greedy()), language.decode(Beam(1, length_penalty))
    np.testing.assert_array_equal(beam.ids, greedy.ids)
    np.testing.assert_array_equal(beam.lengths, greedy.lengths)
    np.testing.assert_array_equal(beam.attention, greedy.attention)
    taken = np.minimum(greedy.lengths + 1, T)  # the end token counts
    np.testing.assert_allclose(beam.scores, greedy.scores / ((5 + taken) / 6) ** length_penalty, rtol=1e-5)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("max_length", [1, 2, 5, 13])
def test_a_finished_hypothesis_keeps_its_score(width, max_length):
    """P([end]) = 0.50 against P([a, end]) = 0.495 * 0.9 = 0.4455: extending and rescoring [end] would lose it."""
    first, after_a = np.log([0.50, 0.495, 0.005]), np.log([0.9, 0.05, 0.05])

    def step(ids, state, time):  # tokens: end, a, b
        begins = ops.equal(ids, 3)[:, None]
        return ops.where(begins, ops.array(first, "float32"), ops.array(after_a, "float32")), state, None

    found = arrays(Beam(width)(step, [], ops.array([3]), max_length, end_id=0))
    assert found.lengths.tolist() == [0]
    assert found.ids.tolist() == [[0] * max_length]
    np.testing.assert_allclose(found.scores, [np.log(0.5)], rtol=1e-6)


def test_the_length_penalty_lets_the_longer_answer_win():
    first, after_a = np.log([0.50, 0.495, 0.005]), np.log([0.9, 0.05, 0.05])

    def step(ids, state, time):
        begins = ops.equal(ids, 3)[:, None]
        return ops.where(begins, ops.array(first, "float32"), ops.array(after_a, "float32")), state, None

    found = arrays(Beam(2, length_penalty=1.0)(step, [], ops.array([3]), 5, end_id=0))
    assert (found.ids.tolist(), found.lengths.tolist()) == ([[1, 0, 0, 0, 0]], [1])
    np.testing.assert_allclose(found.scores, [np.log(0.4455) / (7 / 6)], rtol=1e-6)


@PENALTY
def test_scores_are_the_log_probabilities_of_the_ids_over_the_penalty(language, length_penalty):
    found = language.decode(Beam(4, length_penalty, num_return=4))
    for row in range(B):
        for place in range(4):
            log_prob = lambda tokens, row=row: language.log_prob(row, tokens)  # noqa: E731
            answer = answer_at(found, (row, place), log_prob, language.end_id)
            np.testing.assert_allclose(found.scores[row, place], answer.score(length_penalty), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_return", [2, 3, 5])
def test_answers_stand_best_first_and_differ(language, num_return):
    found = language.decode(Beam(5, length_penalty=0.6, num_return=num_return))
    assert (np.diff(found.scores, axis=1) <= 0).all()
    for row in range(B):
        answers = {(*found.ids[row, place], found.lengths[row, place]) for place in range(num_return)}
        assert len(answers) == num_return


def test_the_best_one_is_the_first_of_several(language):
    one, several = language.decode(Beam(3)), language.decode(Beam(3, num_return=3))
    for alone, first in zip(one, several, strict=True):
        np.testing.assert_array_equal(alone, first[:, 0])


def test_attention_follows_the_beams(language):
    found = language.decode(Beam(4, num_return=4))
    for row in range(B):
        for place in range(4):
            answer = answer_at(found, (row, place), lambda tokens: 0.0, language.end_id)
            expected = language.attention_along(row, len(answer.tokens), answer.tokens)
            np.testing.assert_array_equal(found.attention[row, place], expected)


def remembering(language):
    """The language's step, whose state also records the ids it has read, in a nested state with further axes.

    The attention of a step is the record itself, so that it tells by which parents an answer came.
    """
    record, count = ops.zeros((language.rows, T, 2), "int32"), ops.zeros((language.rows, 1))
    state = {"language": language.state(), "records": (record, [count])}

    def step(ids, state, time):
        record, (count,) = state["records"]
        logits, inner, _ = language.step(ids, state["language"], time)
        now = ops.equal(ops.arange(T), time)[None, :, None]  # (1, T, 1)
        record = ops.where(now, ids[:, None, None], record)  # (B * G, T, 2)
        return logits, {"language": inner, "records": (record, [count + 1])}, ops.cast(record[..., 1], "float32")

    return step, state


def test_states_follow_the_beams_in_nested_structures_with_further_axes(language):
    step, state = remembering(language)
    found = arrays(Beam(4, num_return=4)(step, state, language.start_ids, T, language.end_id))
    np.testing.assert_array_equal(found.ids, language.decode(Beam(4, num_return=4)).ids)
    for row in range(B):
        for place in range(4):
            length, start = found.lengths[row, place], language.start_ids[row]
            for t in range(T):
                expected = np.zeros(T)
                if t <= length:
                    expected[: t + 1] = [start, *found.ids[row, place, :t]]
                np.testing.assert_array_equal(found.attention[row, place, t], expected)


def test_beams_of_a_sentence_stand_next_to_each_other_and_share_its_row_of_a_memory(language):
    """As the cells read an encoder's memory, which keeps its B rows: G queries in a row for each."""

    def step(ids, state, time):
        _, inner, attention = language.step(ids, {"row": state["row"], "node": state["node"]}, time)
        memory = ops.convert_to_tensor(language.logits)  # (B, N, V)
        choice = ops.one_hot(ops.reshape(inner["node"], (B, -1)), language.num_nodes, dtype="float32")  # (B, G, N)
        return ops.reshape(ops.matmul(choice, memory), (-1, V)), inner, attention

    shared = arrays(Beam(3, num_return=3)(step, language.state(), language.start_ids, T, language.end_id))
    for one, other in zip(shared, language.decode(Beam(3, num_return=3)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_each_sentence_is_answered_as_if_alone(language):
    together = language.decode(Beam(3, length_penalty=0.6, num_return=2))
    decoder = Beam(3, length_penalty=0.6, num_return=2)
    for row in (0, 5, B - 1):
        state = keras.tree.map_structure(lambda x, row=row: x[row : row + 1], language.state())
        alone = decoder(language.step, state, language.start_ids[row : row + 1], T, language.end_id)
        for one, other in zip(arrays(alone), together, strict=True):
            np.testing.assert_array_equal(one[0], other[row])


@pytest.mark.parametrize("width", [1, 3, 7])
def test_a_single_step_gives_the_likeliest_tokens(language, width):
    found = language.decode(Beam(width, num_return=min(width, V)), max_length=1)
    for row in range(B):
        order = np.argsort(-language.logits[row, 0])[: min(width, V)]
        np.testing.assert_array_equal(found.ids[row, :, 0], np.where(order == language.end_id, 0, order))
        np.testing.assert_array_equal(found.lengths[row], order != language.end_id)
        np.testing.assert_allclose(found.scores[row], language.row(row)(())[order], rtol=1e-5)


def test_a_step_without_attention_gives_none(language):
    def step(ids, state, time):
        logits, state, _ = language.step(ids, state, time)
        return logits, state, None

    found = arrays(Beam(3)(step, language.state(), language.start_ids, T, language.end_id))
    assert found.attention is None
    np.testing.assert_array_equal(found.ids, language.decode(Beam(3)).ids)


@pytest.mark.parametrize("decoder", [Greedy(), Beam(3, length_penalty=1.0)], ids=["greedy", "beam"])
def test_large_half_precision_logits_give_exact_finite_scores(rng, decoder):
    language = Language(rng, B, V, T, S)
    language.logits = np.clip(60000 * language.logits / np.abs(language.logits).max(), -6e4, 6e4).astype("float16")
    half = language.decode(decoder)
    language.logits = language.logits.astype("float32")
    for one, other in zip(half, language.decode(decoder), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("forbidden", [-1e9, -np.inf])
@pytest.mark.parametrize("width", [1, 3, 6])
def test_a_forbidden_token_is_in_no_answer(rng, forbidden, width):
    language = Language(rng, B, V, T, S)
    language.logits[..., 3] = forbidden
    found = language.decode(Beam(width, num_return=min(width, 2)))
    assert not (found.ids == 3).any()
    assert (found.scores > -1e3).all()
    free = np.delete(language.logits, 3, axis=-1)
    assert np.isfinite(free).all()
    for row in range(B):
        with np.errstate(invalid="ignore"):
            best = beam_search(language.row(row), T, language.end_id, width, 0.0)[0]
        assert_answer(found, row if found.ids.ndim == 2 else (row, 0), best)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX traces the loop: its steps cannot be counted")
def test_it_stops_when_no_growing_beam_can_overtake_the_answer():
    calls = []

    def step(ids, state, time):  # token 0 ends, with probability 0.97
        calls.append(time)
        return ops.tile(ops.log(ops.array([[0.97, 0.01, 0.02]])), (ops.shape(ids)[0], 1)), state, None

    found = arrays(Beam(3)(step, [], ops.array([1, 2]), max_length=50, end_id=0))
    assert found.lengths.tolist() == [0, 0]
    assert len(calls) == 1
    Beam(3, num_return=2)(step, [], ops.array([1, 2]), max_length=50, end_id=0)
    assert 2 <= len(calls) - 1 <= 4


def covering(language, row, weight):
    """What an answer's rank has beside its log-probability: `bonus(tokens)`."""

    def bonus(tokens):
        read = language.attention_along(row, len(tokens), tokens)
        return generation.coverage(read, weight) if weight else 0.0

    return bonus


@pytest.mark.parametrize("weight", [0.2, 2.0])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 3, 7])
def test_with_coverage_it_finds_what_a_search_finds_that_never_stops_early(language, width, length_penalty, weight):
    found = language.decode(Beam(width, length_penalty, num_return=min(width, 2), coverage_penalty=weight))
    felt = 0
    for row in range(B):
        bonus, settings = (
            covering(language, row, weight),
            (language.row(row), T, language.end_id, width, length_penalty),
        )
        beams = beam_search(*settings, bonus)
        for place, answer in enumerate(beams[:2]):
            assert_answer(found, (row, place), answer, length_penalty, bonus(answer.tokens))
        felt += beams[0].tokens != beam_search(*settings)[0].tokens
    assert felt or width == 1


@pytest.mark.parametrize("sharpness", [0.3, 6.0])
def test_stopping_early_is_right_with_coverage_in_flat_and_in_sharp_languages(rng, sharpness):
    language = Language(rng, B, V, 5, S, sharpness=sharpness)
    language.attention **= 4  # little is read in one step
    found = language.decode(Beam(4, 1.0, num_return=2, coverage_penalty=0.5))
    for row in range(B):
        bonus = covering(language, row, 0.5)
        for place, answer in enumerate(beam_search(language.row(row), 5, language.end_id, 4, 1.0, bonus)[:2]):
            assert_answer(found, (row, place), answer, 1.0, bonus(answer.tokens))


def test_a_growing_beam_may_yet_read_what_the_finished_one_has_not():
    """At the first step [end] is ahead of [a], and both have left out half of the source; [a, end] reads it."""
    first, after_a = np.log([0.51, 0.49]), np.log([0.99, 0.01])

    def step(ids, state, time):  # tokens: end, a
        begins = ops.equal(ids, 3)[:, None]
        read = ops.where(begins, ops.array([1, 0.01]), ops.array([0, 0.99]))
        return ops.where(begins, ops.array(first, "float32"), ops.array(after_a, "float32")), state, read

    found = arrays(Beam(2, coverage_penalty=0.5)(step, [], ops.array([3]), 5, end_id=0))
    assert (found.ids.tolist(), found.lengths.tolist()) == ([[1, 0, 0, 0, 0]], [1])
    np.testing.assert_allclose(found.scores, [np.log(0.49 * 0.99)], rtol=1e-5)


@PENALTY
def test_wide_beams_with_coverage_are_an_exhaustive_search(rng, length_penalty):
    language = Language(rng, rows=7, num_tokens=3, max_length=4, num_sources=5)
    found = language.decode(Beam(31, length_penalty, num_return=31, coverage_penalty=0.7))
    for row in range(7):
        bonus = covering(language, row, 0.7)
        for place, answer in enumerate(every_answer(language.row(row), 4, language.end_id, length_penalty, bonus)):
            assert_answer(found, (row, place), answer, length_penalty, bonus(answer.tokens))


@pytest.mark.parametrize("given", [False, True])
def test_padding_of_the_source_need_not_be_covered(rng, given):
    language = Language(rng, B, V, T, S)
    padded = Language(np.random.default_rng(0), B, V, T, S)
    padded.attention = np.pad(language.attention, ((0, 0), (0, 0), (0, 2)))
    mask = np.tile(np.arange(S + 2) < S, (B, 1))
    decoder = Beam(3, coverage_penalty=0.5)
    found = padded.decode(decoder, **({"source_mask": mask} if given else {}))
    for name, one, other in zip(found._fields, found, language.decode(decoder), strict=True):
        np.testing.assert_allclose(one[..., :S] if name == "attention" else one, other, rtol=1e-5)


def test_what_is_never_read_counts_as_ten_to_the_minus_ten(rng):
    language = Language(rng, B, V, T, S)
    language.attention[..., 0], language.attention[..., 1:] = 0.0, 1.0
    free, found = (language.decode(Beam(3, coverage_penalty=x), source_mask=np.ones((B, S), bool)) for x in (0.0, 0.5))
    np.testing.assert_array_equal(found.ids, free.ids)  # all lose the same
    np.testing.assert_allclose(found.scores, free.scores + 0.5 * np.log(1e-10), rtol=1e-5)


def test_coverage_without_attention_raises(language):
    def step(ids, state, time):
        logits, state, _ = language.step(ids, state, time)
        return logits, state, None

    with pytest.raises(ValueError, match=r"`coverage_penalty` counts.*Received: coverage_penalty=0\.2, attention=None"):
        Beam(3, coverage_penalty=0.2)(step, language.state(), language.start_ids, T, language.end_id)


@pytest.mark.parametrize("coverage_penalty", [-0.1, float("nan"), float("inf"), "0.2"])
def test_a_coverage_penalty_below_zero_raises(coverage_penalty):
    words = rf"`coverage_penalty` must be a number of at least 0\. Received: coverage_penalty={coverage_penalty!r}"
    with pytest.raises(ValueError, match=words):
        Beam(coverage_penalty=coverage_penalty)


@pytest.mark.parametrize("width", [0, -1, 2.5, "3", None, True])
def test_a_width_that_is_no_number_of_beams_raises(width):
    with pytest.raises(ValueError, match=rf"`width` is a number of beams.*at least 1\. Received: width={width!r}"):
        Beam(width)


@pytest.mark.parametrize("length_penalty", [-0.1, float("nan")])
def test_a_length_penalty_below_zero_raises(length_penalty):
    with pytest.raises(ValueError, match=rf"`length_penalty` must be at least 0\. Received: .*={length_penalty}"):
        Beam(length_penalty=length_penalty)


@pytest.mark.parametrize("num_return", [0, 4, 1.5, -1])
def test_more_answers_than_beams_raise(num_return):
    with pytest.raises(
        ValueError, match=rf"`num_return` must be .* from 1 to `width`\. Received: .*={num_return}, width=3"
    ):
        Beam(3, num_return=num_return)


@pytest.mark.parametrize("max_length", [0, 2.5, None])
def test_a_length_that_is_no_number_of_steps_raises(language, max_length):
    with pytest.raises(ValueError, match=rf"`max_length` is the number of steps.*Received: max_length={max_length}"):
        Beam(2)(language.step, language.state(), language.start_ids, max_length, language.end_id)
