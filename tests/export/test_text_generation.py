"""`TextGeneration`: a prompt in, what follows it out, as the model's own `generate` writes it."""

from __future__ import annotations

import numpy as np
import pytest

from keras_seqattn.decoding import Beam, Sampling
from keras_seqattn.models import GPT
from keras_seqattn.text import TextGeneration
from tests.export.generating import BYTES, CHARACTERS, PROMPTS, P, T, arrays, generation

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture(scope="module")
def characters():
    """Learned positions: they just suffice for the longest prompt with the longest text."""
    return generation(positions="learned")


def by_hand(generation, prompt_ids):
    """The text and score that `generate` gives for one prompt of ids, without any padding."""
    tokenizer = generation.tokenizer
    found = generation.model.generate(np.array([prompt_ids], "int32"), T, tokenizer.end_id, generation.decoder)
    ids = found.ids.numpy()[0, : int(found.lengths[0])]
    return tokenizer.detokenize(ids[None]).numpy()[0], float(found.scores[0]), ids


def test_a_batch_of_prompts_is_continued_as_each_alone(characters):
    found = arrays(characters(PROMPTS))
    for row, prompt in enumerate(PROMPTS):
        ids = CHARACTERS.tokenize([prompt or b"\n"]).to_list()[0][-P:]
        text, score, written = by_hand(characters, ids)
        assert found["text"][row] == text
        np.testing.assert_allclose(found["score"][row], score, rtol=1e-4)
        tokens = [token for token in found["tokens"][row].tolist() if token]
        assert tokens == CHARACTERS.tokens(written).numpy().tolist()
        assert found["ended"][row] == (len(written) < T)
    assert found["prompt_truncated"].tolist() == [False, False, False, True, False, False]
    assert len(set(found["text"])) > 3  # or equal texts would prove little


def test_the_last_tokens_of_a_long_prompt_count(characters):
    found = arrays(characters(["dcba" * 9 + "ab cd", "ab cd"]))
    assert found.pop("prompt_truncated").tolist() == [True, False]
    for long, short in found.values():
        np.testing.assert_array_equal(long, short)


def test_an_empty_prompt_is_read_as_its_stand_in_or_as_the_start_token(characters):
    found = arrays(characters(["", "\n"]))
    assert found["text"][0] == found["text"][1]
    model = characters.model
    with_start = TextGeneration(model, CHARACTERS, P, T)
    assert arrays(with_start([""]))["text"][0] == by_hand(with_start, [CHARACTERS.start_id])[0]
    long = TextGeneration(model, CHARACTERS, 2, T, empty_prompt="abc")
    found = arrays(long(["", "bc"]))
    assert found["text"][0] == found["text"][1]
    assert found["prompt_truncated"].tolist() == [False, False]


def test_an_empty_batch_has_no_continuation(characters):
    found = arrays(characters([]))
    assert {name: len(value) for name, value in found.items()} == dict.fromkeys(found, 0)


def test_a_text_is_valid_utf_8_whatever_bytes_the_model_writes():
    found = arrays(generation(BYTES, Sampling(seed=1), empty_prompt=None)(PROMPTS))
    assert all(text.decode("utf-8") for text in found["text"])
    assert any("\ufffd" in text.decode("utf-8") for text in found["text"])


def test_an_integer_seed_gives_the_same_text_again_and_none_another_one():
    seeded, free = (generation(decoder=Sampling(temperature=3.0, seed=seed)) for seed in (7, None))
    assert arrays(seeded(PROMPTS))["text"].tolist() == arrays(seeded(PROMPTS))["text"].tolist()
    assert arrays(free(PROMPTS))["text"].tolist() != arrays(free(PROMPTS))["text"].tolist()


def test_a_single_beam_is_greedy(characters):
    beam = TextGeneration(characters.model, CHARACTERS, P, T, Beam(1), "\n")
    assert arrays(beam(PROMPTS))["text"].tolist() == arrays(characters(PROMPTS))["text"].tolist()


@pytest.mark.parametrize("name", ["max_prompt_length", "max_length"])
def test_lengths_below_one_are_refused(name, characters):
    lengths = {"max_prompt_length": 3, "max_length": 3, name: 0}
    with pytest.raises(ValueError, match=rf"`{name}` is a number of tokens of at least 1\. Received: 0"):
        TextGeneration(characters.model, CHARACTERS, **lengths)


def test_what_the_model_cannot_read_is_refused(characters):
    with pytest.raises(ValueError, match=rf"the model's {P + T - 1}\. Received: max_prompt_length={P + 1}"):
        TextGeneration(characters.model, CHARACTERS, P + 1, T)
    with pytest.raises(ValueError, match="`empty_prompt` is what a model reads instead of nothing"):
        TextGeneration(characters.model, CHARACTERS, P, T, empty_prompt="")
    rotary = GPT(CHARACTERS.vocabulary_size, 3, model_dim=4, num_layers=1, num_heads=1, positions="rotary")
    TextGeneration(rotary, CHARACTERS, 90, 90)  # reads texts of any length
