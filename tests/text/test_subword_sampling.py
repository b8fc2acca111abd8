"""Subword regularization: every cut spells the text, chances are those of the formula, and the seed decides them."""

import itertools
import math

import numpy as np
import pytest
import sentencepiece

from keras_seqattn.text import SentencePieceTokenizer

pytestmark = pytest.mark.tensorflow_only

TEXTS = ["to be or not to be", "that is the question", "whether 'tis nobler in the mind to suffer"] * 5
STRANGE = ["", " ", "not  to ▁ 飲む", "\U000f2581 to be"]


@pytest.fixture(scope="module")
def tokenizer():
    return SentencePieceTokenizer.learn(TEXTS, vocabulary_size=300)


def test_every_drawn_cut_spells_the_text(tokenizer):
    for seed in range(5):
        drawn = tokenizer.sample(TEXTS + STRANGE, alpha=0.1, seed=seed)
        spelled = [tokenizer.detokenize([ids]).numpy()[0].decode() for ids in drawn]
        assert spelled == TEXTS + STRANGE


def test_the_seed_alone_decides(tokenizer):
    one, again, other = (tokenizer.sample(TEXTS, alpha=0.2, seed=seed) for seed in (3, 3, 4))
    assert all(map(np.array_equal, one, again))
    assert not all(map(np.array_equal, one, other))
    usual = tokenizer.tokenize(TEXTS).to_list()
    assert any(list(ids) != row for ids, row in zip(one, usual, strict=True))


@pytest.mark.parametrize("alpha", [0.2, 0.7])
def test_chances_are_those_of_the_formula(tokenizer, alpha):
    """Against all ways to cut a short text, enumerated, with the model's own log-probabilities of pieces."""
    text, draws = "not to", 20_000
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    surface = "▁" + text.replace(" ", "▁")
    score = {processor.id_to_piece(i): processor.get_score(i) for i in range(4 + 256, processor.vocab_size())}
    weight = {}
    for cuts in itertools.product([False, True], repeat=len(surface) - 1):
        at = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(surface)]
        pieces = tuple(surface[a:b] for a, b in itertools.pairwise(at))
        if all(piece in score for piece in pieces):
            weight[pieces] = math.exp(alpha * sum(score[piece] for piece in pieces))
    assert len(weight) > 3
    total = sum(weight.values())

    drawn = tokenizer.sample([text] * draws, alpha=alpha, seed=0)
    count = dict.fromkeys(weight, 0)
    for ids in drawn:
        count[tuple(processor.id_to_piece(int(i)) for i in ids)] += 1
    for pieces, times in count.items():
        chance = weight[pieces] / total
        deviation = math.sqrt(draws * chance * (1 - chance))
        assert abs(times - draws * chance) < 5 * deviation + 1, (pieces, times, draws * chance)


def test_bpe_leaves_merges_out():
    tokenizer = SentencePieceTokenizer.learn(TEXTS, vocabulary_size=300, model_type="bpe")
    usual = sum(map(len, tokenizer.tokenize(TEXTS).to_list()))
    few, many = (sum(map(len, tokenizer.sample(TEXTS, alpha, seed=0))) for alpha in (0.1, 0.9))
    assert usual < few < many


def test_texts_are_normalized_as_in_the_graph():
    tokenizer = SentencePieceTokenizer.learn(TEXTS, vocabulary_size=300, normalization=("lower",))
    (drawn,) = tokenizer.sample(["Not TO be"], alpha=0.3, seed=0)
    assert tokenizer.detokenize([drawn]).numpy()[0] == b"not to be"


@pytest.mark.parametrize("alpha", [0, -0.1, float("nan")])
def test_alpha_must_be_over_0(tokenizer, alpha):
    with pytest.raises(ValueError, match="`alpha` must be over 0"):
        tokenizer.sample(["to be"], alpha, seed=0)
