import numpy as np
import pytest
from keras import ops

from keras_seqattn.decoding import Greedy
from tests.decoding.languages import Language, answer_at, arrays, assert_answer
from tests.decoding.search import greedy_search

B, V, T, S = 31, 5, 4, 3


@pytest.fixture
def language(rng):
    return Language(rng, B, V, T, S)


def test_it_takes_the_likeliest_token_at_every_step(language):
    found = language.decode(Greedy())
    for row in range(B):
        assert_answer(found, row, greedy_search(language.row(row), T, language.end_id))
    assert len(set(found.lengths.tolist())) > 2  # the languages do end at different steps


def test_the_score_is_the_log_probability_of_the_ids_and_of_the_end(language):
    found = language.decode(Greedy())
    for row in range(B):
        answer = answer_at(found, row, lambda tokens, row=row: language.log_prob(row, tokens), language.end_id)
        np.testing.assert_allclose(found.scores[row], answer.log_prob, rtol=1e-5, atol=1e-6)


def test_attention_is_what_each_step_read_and_zero_past_the_end(language):
    found = language.decode(Greedy())
    for row in range(B):
        answer = greedy_search(language.row(row), T, language.end_id)
        expected = language.attention_along(row, len(answer.tokens), answer.tokens)
        np.testing.assert_array_equal(found.attention[row], expected)


def test_a_step_without_attention_gives_none(language):
    def step(ids, state, time):
        logits, state, _ = language.step(ids, state, time)
        return logits, state, None

    found = arrays(Greedy()(step, language.state(), language.start_ids, T, language.end_id))
    assert found.attention is None
    np.testing.assert_array_equal(found.ids, language.decode(Greedy()).ids)


def test_one_step_is_the_beginning_of_several(language):
    one, several = language.decode(Greedy(), max_length=1), language.decode(Greedy())
    assert one.ids.shape == (B, 1)
    np.testing.assert_array_equal(one.ids, several.ids[:, :1])
    np.testing.assert_array_equal(one.lengths, np.minimum(several.lengths, 1))


def test_dtypes_are_those_that_are_documented(language):
    found = language.decode(Greedy())
    assert [str(x.dtype) for x in found] == ["int32", "int32", "float32", "float32"]


@pytest.mark.parametrize("max_length", [0, -1, 2.5, True, None])
def test_a_length_that_is_no_number_of_steps_raises(language, max_length):
    with pytest.raises(ValueError, match=rf"`max_length` is the number of steps.*Received: max_length={max_length}"):
        Greedy()(language.step, language.state(), language.start_ids, max_length, language.end_id)


def test_start_ids_of_any_integer_type_do(language):
    found = language.decode(Greedy())
    for dtype in ("int64", "uint8"):
        again = Greedy()(language.step, language.state(), language.start_ids.astype(dtype), T, language.end_id)
        np.testing.assert_array_equal(arrays(again).ids, found.ids)


def test_token_zero_is_a_token_like_another_when_it_is_not_the_end():
    def step(ids, state, time):  # says 0 twice, then ends
        return ops.one_hot(ops.where(state < 2, 0, 2), 3, dtype="float32"), state + 1, None

    found = arrays(Greedy()(step, ops.zeros((1,), "int32"), ops.array([1]), 5, end_id=2))
    assert (found.ids.tolist(), found.lengths.tolist()) == ([[0, 0, 0, 0, 0]], [2])
