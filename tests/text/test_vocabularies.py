"""What each kind of tokenizer takes for a token, and which tokens it keeps."""

import pytest
import sentencepiece

from keras_seqattn.text import CharacterTokenizer, SentencePieceTokenizer, WordTokenizer


def pieces(tokenizer, text):
    return [token.decode("utf-8") for token in tokenizer.tokens(tokenizer.tokenize([text]))[0].numpy()]


def test_characters_are_code_points():
    tokenizer = CharacterTokenizer.learn(["e\u0301👍🏽"])
    assert pieces(tokenizer, "e\u0301👍🏽") == ["e", "\u0301", "👍", "🏽"]


def test_frequent_characters_come_first_and_ties_by_code_point():
    assert CharacterTokenizer.learn(["zab", "za", "🙂éz"]).characters == "zabé🙂"
    assert WordTokenizer.learn(["é b a", "b"]).words == [" a", " b", "b", "é"]


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_the_vocabulary_size_counts_the_special_ids(kind):
    tokenizer = kind.learn(["a, a, a; b"], vocabulary_size=6)
    assert tokenizer.vocabulary_size == 6
    assert pieces(tokenizer, "b")[0] == "<unk>"
    assert kind.learn(["a"], vocabulary_size=100).vocabulary_size == 5


def test_an_unknown_character_or_word_reads_as_the_replacement_character():
    assert CharacterTokenizer("ab").detokenize(CharacterTokenizer("ab").tokenize(["aXb"])).numpy()[0].decode() == "a�b"
    words = WordTokenizer(["to", " be"])
    assert words.detokenize(words.tokenize(["to see be"])).numpy()[0].decode() == "to\ufffd be"


def test_invisible_characters_are_shown_as_escapes():
    tokenizer = CharacterTokenizer.learn([" \n\t\u200d\u00a0\x00"])
    assert pieces(tokenizer, " \n\t\u200d\u00a0\x00") == ["▁", "\\n", "\\t", "\\u200d", "\\xa0", "\\x00"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No,  it isn't.", ["No", ",", "▁", "▁it", "▁isn't", "."]),
        ("'a' b' 'c", ["'", "a", "'", "▁b", "'", "▁'", "c"]),
        ("l’été, d'ici", ["l’été", ",", "▁d'ici"]),
        (" a\n b", ["▁a", "\\n", "▁b"]),
        ("(3.14)", ["(", "3", ".", "14", ")"]),
        ("नमस्ते दुनिया", ["नमस्ते", "▁दुनिया"]),
        ("كَتَبَ، ٢٠", ["كَتَبَ", "،", "▁٢٠"]),
        ("👍🙂 🙂", ["👍", "🙂", "▁🙂"]),
        ("snake_case", ["snake", "_", "case"]),
    ],
)
def test_a_word_carries_the_space_before_it_and_punctuation_stands_alone(text, expected):
    assert pieces(WordTokenizer.learn([text]), text) == expected


def test_a_word_is_known_with_and_without_its_space_separately():
    assert WordTokenizer(["a", " b"]).tokenize(["a b", "b a", "ba"]).to_list() == [[4, 5], [3, 3], [3]]


@pytest.mark.parametrize("characters", ["aba", "\ud800", ""])
def test_characters_that_are_no_vocabulary_are_refused(characters):
    with pytest.raises(ValueError, match="`characters` must hold"):
        CharacterTokenizer(characters)


@pytest.mark.parametrize("words", [["a", "a"], ["a", ""], []])
def test_words_that_are_no_vocabulary_are_refused(words):
    with pytest.raises(ValueError, match="`words` must hold"):
        WordTokenizer(words)


def test_a_lone_surrogate_is_learned_as_the_replacement_character():
    assert "\ufffd" in CharacterTokenizer.learn(["a\ud800"]).characters


TEXT = ["the cat sat on the mat", "the cats sat on the mats"] * 20


def test_frequent_words_are_whole_pieces():
    tokenizer = SentencePieceTokenizer.learn(TEXT, vocabulary_size=300, model_type="bpe")
    assert pieces(tokenizer, "the cat") == ["▁the", "▁cat"]
    assert pieces(tokenizer, "the  cat\n") == ["▁the", "▁", "▁cat", "<0x0A>"]


def test_characters_never_seen_are_spelled_in_bytes():
    tokenizer = SentencePieceTokenizer.learn(TEXT, vocabulary_size=300)
    assert pieces(tokenizer, "é")[-2:] == ["<0xC3>", "<0xA9>"]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_small_text_has_fewer_pieces_than_are_allowed(model_type):
    tokenizer = SentencePieceTokenizer.learn(TEXT, vocabulary_size=5000, model_type=model_type)
    assert 260 < tokenizer.vocabulary_size < 1000


def test_long_texts_are_learned_from_too():
    tokenizer = SentencePieceTokenizer.learn(["the cat sat " * 1000], vocabulary_size=300, model_type="bpe")
    assert pieces(tokenizer, "the cat") == ["▁the", "▁cat"]


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match=r"`vocabulary_size` must have room for 4 special tokens, 256 bytes.*=200"):
        SentencePieceTokenizer.learn(TEXT, vocabulary_size=200)


@pytest.mark.parametrize(
    ("option", "message"),
    [({"model_type": "word"}, "`model_type` must be one of bpe, unigram"), ({"character_coverage": 0.5}, "0.98, 1")],
)
def test_subword_options_out_of_range_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        SentencePieceTokenizer.learn(TEXT, vocabulary_size=300, **option)


def test_a_model_with_other_special_ids_is_refused():
    import io

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=model, vocab_size=30, hard_vocab_limit=False, minloglevel=2
    )
    with pytest.raises(ValueError, match=r"`model` must have the pieces <pad>, <s>, </s>, <unk>.*Received: <unk>, <s>"):
        SentencePieceTokenizer(model.getvalue())


@pytest.mark.parametrize("model", [b"", b"no model", "text"])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(ValueError, match="`model` must be the bytes of a SentencePiece model"):
        SentencePieceTokenizer(model)


def test_learning_is_quiet(capfd):
    SentencePieceTokenizer.learn(TEXT, vocabulary_size=300)
    noise = [line for line in capfd.readouterr().err.splitlines() if "precompiled_charsmap" not in line]
    assert noise == []
