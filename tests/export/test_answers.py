"""Texts in, texts out, whatever the text: too long, empty, unknown, broken; and a batch is its rows."""

from __future__ import annotations

import numpy as np
import pytest

from keras_seqattn.decoding import Beam
from keras_seqattn.text import CharacterTokenizer, TextToText
from tests.export.conftest import TEXTS
from tests.training.echo import Echo, echoing

pytestmark = pytest.mark.tensorflow_only


def answered(answering, texts):
    """Each output as a list, strings as str."""
    found = {name: value.numpy() for name, value in answering(texts).items()}
    texts_of = np.vectorize(lambda text: text.decode("utf-8"), otypes=[object])
    return {name: (texts_of(value) if value.dtype == object else value).tolist() for name, value in found.items()}


def test_a_text_comes_with_its_tokens_and_alignment(echo):
    found = answered(echo, ["ab c", "d"])
    assert found["answer"] == ["ab c", "d"]
    assert found["source_tokens"] == found["answer_tokens"] == [["a", "b", "▁", "c"], ["d", "", "", ""]]
    assert found["attention"] == [np.eye(4).tolist(), [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]
    assert np.allclose(found["score"], 0, atol=1e-3)  # it is certain
    assert found["source_truncated"] == found["answer_truncated"] == [False, False]


@pytest.mark.parametrize("decoder", [None, Beam(3)])
def test_truncation_is_told_from_the_very_length_on(decoder):
    tokenizer = CharacterTokenizer("abcdefgh")
    short_source = TextToText(Echo(tokenizer.vocabulary_size), tokenizer, tokenizer, 5, 9, decoder)
    found = answered(short_source, ["abcd", "abcde", "abcdef"])
    assert found["answer"] == ["abcd", "abcde", "abcde"]
    assert found["source_truncated"] == [False, False, True]
    assert found["answer_truncated"] == [False, False, False]
    short_answer = TextToText(Echo(tokenizer.vocabulary_size), tokenizer, tokenizer, 9, 5, decoder)
    found = answered(short_answer, ["abcd", "abcde", "abcdef"])
    assert found["answer"] == ["abcd", "abcde", "abcde"]
    assert found["source_truncated"] == [False, False, False]
    assert found["answer_truncated"] == [False, True, True]  # no end token within five steps


def test_a_text_far_beyond_the_greatest_length_is_answered(echo):
    found = answered(echo, ["ab" * 200_000])
    assert found["answer"] == ["abababa"]
    assert found["source_truncated"] == found["answer_truncated"] == [True]
    assert [len(tokens) for tokens in found["source_tokens"]] == [9]


def test_empty_texts_and_an_empty_batch_are_answered(echo):
    assert answered(echo, [""])["answer"] == [""]
    assert answered(echo, ["", "a", ""])["answer"] == ["", "a", ""]
    found = echo([])
    assert {name: value.shape[0] for name, value in found.items()} == dict.fromkeys(found, 0)


def test_unknown_characters_and_broken_bytes_read_as_one_unknown_token_each(echo):
    found = answered(echo, ["aлb", b"a\xffb", "🙂", b"\xe4\xbd"])
    assert found["answer"][:3] == ["a�b", "a�b", "�"]
    assert set(found["answer"][3]) == {"�"}
    assert found["source_tokens"][0] == ["a", "<unk>", "b"]
    assert found["source_truncated"] == [False] * 4


def test_every_text_gets_a_valid_answer_and_flags_that_tell_the_lengths(words):
    found = {name: value.numpy() for name, value in words(TEXTS).items()}
    for answer in found["answer"]:
        answer.decode("utf-8")
    assert np.isfinite(found["score"]).all()
    assert np.isfinite(found["attention"]).all()
    lengths = words.source_tokenizer.tokenize(TEXTS).row_lengths().numpy()
    assert found["source_truncated"].tolist() == (lengths > words.max_source_length).tolist()
    assert found["source_truncated"].any()
    num_tokens = (found["answer_tokens"] != b"").sum(axis=1)
    assert found["answer_truncated"].tolist() == (num_tokens == words.max_target_length).tolist()
    assert len(set(found["answer"])) > len(TEXTS) / 2  # or equal answers would prove little


def test_a_batch_is_answered_as_its_rows_alone(words):
    together = {name: value.numpy() for name, value in words(TEXTS).items()}
    for row, text in enumerate(TEXTS):
        alone = {name: value.numpy()[0] for name, value in words([text]).items()}
        for name in ("answer", "source_truncated", "answer_truncated"):
            assert alone[name] == together[name][row], text
        np.testing.assert_allclose(alone["score"], together["score"][row], rtol=1e-4)
        for name in ("source_tokens", "answer_tokens"):
            assert [token for token in together[name][row] if token] == [token for token in alone[name] if token]
        steps, width = alone["attention"].shape
        np.testing.assert_allclose(together["attention"][row, :steps, :width], alone["attention"], rtol=1e-3, atol=1e-5)
        assert not together["attention"][row, steps:].any()
        assert not together["attention"][row, :, width:].any()


def test_attention_adds_up_to_one_where_there_is_a_token_to_read(words):
    found = {name: value.numpy() for name, value in words(TEXTS).items()}
    sums = found["attention"].sum(axis=-1)
    is_token, has_source = found["answer_tokens"] != b"", (found["source_tokens"] != b"").any(axis=1)
    np.testing.assert_allclose(sums[is_token & has_source[:, None]], 1.0, rtol=1e-4)
    assert not sums[~has_source].any()


@pytest.mark.parametrize("name", ["max_source_length", "max_target_length"])
def test_lengths_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}` is a number of tokens of at least 1\. Received: 0"):
        echoing(**{name: 0})
