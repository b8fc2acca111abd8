"""BERT's tokens: the ids of Hugging Face's own tokenizer, for any text; pairs, exports, and learning."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seqattn.text import WordPieceTokenizer, load_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "No,  it isn't.\r\n\tBut  it was ",
    "",
    " ",
    "¿Dónde está la biblioteca? EL ÑANDÚ",
    "Größe, Straße, ÄÖÜ, İstanbul, ẞ",
    "ΟΔΟΣ ΣΑΣ Σ, ИЙ Ёлка",
    "我们在学习。今日は、世界カタカナ ガギグ 豈更車 \U0002f800 \U0002b820 \U0002b920",
    "안녕하세요 여러분",
    "مرحبًا بالعالم، ٢٠٢١",
    "שָׁלוֹם עוֹלָם",
    "नमस्ते दुनिया मैं हिंदी में",
    "ภาษาไทยไม่มีช่องว่าง",
    "👩‍👩‍👧 🏳️‍🌈 👍🏽 🤣",
    "e\u0301 x\u00a0y \u3000z\x85\x1c q\x0bx\x0cy a\x00b \ufffd \ue000 \ufeffmark \u200bzero\u00adhyphen",
    "don't $5.00 a+b=c <tag> `x` ~ ^ | snake_case (3.14)",
    "[MASK] is [mask] x[MASK]y [UNK] [SEP][CLS] [PAD] ##a",
    "ﬁ Ａｂ ŉ",
    "x" * 100 + " " + "x" * 101 + " " + "é" * 100,
]
OPTIONS = {
    "uncased": {},
    "cased": {"lowercase": False},
    "accents": {"strip_accents": False},
    "cased_without_accents": {"lowercase": False, "strip_accents": True},
    "chinese_in_words": {"tokenize_chinese_chars": False},
    "as_it_is": {"lowercase": False, "clean_text": False},
}


def theirs(vocabulary, lowercase=True, strip_accents=None, tokenize_chinese_chars=True, clean_text=True):
    """What `transformers.BertTokenizer` is made of."""
    model = tokenizers.models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=clean_text,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    start, end = ("[CLS]", vocabulary.index("[CLS]")), ("[SEP]", vocabulary.index("[SEP]"))
    tokenizer.post_processor = tokenizers.processors.BertProcessing(end, start)
    return tokenizer


def ids_of(tokenizer, texts):
    return [found.ids for found in tokenizer.encode_batch(texts, add_special_tokens=False)]


@pytest.fixture(scope="module", params=list(OPTIONS))
def both(request):
    """Our tokenizer and theirs, with the characters of the texts and some pieces."""
    options = OPTIONS[request.param]
    without_nul = [text.replace("\0", "") for text in TEXTS]  # tensorflow-text has no piece with that
    words = WordPieceTokenizer.learn(without_nul, vocabulary_size=1000, **options).vocabulary
    vocabulary = ["[unused0]", *words, "the", "##ing", "", "##", "a b", "x" * 300]
    return WordPieceTokenizer(vocabulary, **options), theirs(vocabulary, **options)


def test_ids_are_those_of_the_reference(both):
    ours, reference = both
    assert ours.tokenize(TEXTS).to_list() == ids_of(reference, TEXTS)


# Where the code has cases: spaces, controls, marks, special tokens, capitals that become other letters.
awkward = st.lists(
    st.sampled_from([*" \n\t'sdtABZéñÉ我界かガ👍\u0301\u0308!?.\u00a0\x00\ufeff\u200b٢مह्İΣςß[]#", *SPECIAL, "the"]),
    max_size=20,
).map("".join)
# Letters that have become letters since tensorflow-text's Unicode, 14, or have been taken apart otherwise since then.
settled = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cn"]) | st.sampled_from("👍🏽𝔘𐐀𠀀")


@given(texts=st.lists(st.text(settled, max_size=20) | awkward, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_any_text_gives_the_ids_of_the_reference(both, texts):
    ours, reference = both
    assert ours.tokenize(texts).to_list() == ids_of(reference, texts)


def test_the_classes_of_transformers_give_the_same_ids_from_one_vocabulary():
    import transformers

    vocabulary = WordPieceTokenizer.learn(TEXTS).vocabulary
    ids = {token: i for i, token in enumerate(vocabulary)}
    for lowercase in (True, False):
        reference = transformers.BertTokenizer(vocab=ids, do_lower_case=lowercase)
        ours = WordPieceTokenizer(vocabulary, lowercase=lowercase)
        assert ours.tokenize(TEXTS).to_list() == reference(TEXTS, add_special_tokens=False)["input_ids"]


def test_special_tokens_in_a_text_are_cut_like_any_text_when_asked():
    tokenizer = WordPieceTokenizer([*SPECIAL, "[", "]", "mask"], keep_special_tokens=False)
    assert tokenizer.tokenize(["[MASK]"]).to_list() == [[5, 7, 6]]


def test_further_special_tokens_are_kept_whole_and_the_longer_one_counts():
    tokenizer = WordPieceTokenizer([*SPECIAL, "<e>", "<e>x", "a", "x"], special_tokens=["<e>", "<e>x"])
    assert tokenizer.tokenize(["a<e>a", "<e><e>xx<E>", ""]).to_list() == [[7, 5, 7], [5, 6, 8, 1, 1, 1], []]
    assert tokenizer.special_ids == (0, 1, 2, 3, 4, 5, 6)


# Pairs
@pytest.fixture(scope="module")
def words():
    vocabulary = ["a", "b", *SPECIAL]  # special ids that are not the first
    return WordPieceTokenizer(vocabulary), theirs(vocabulary)


@pytest.mark.parametrize("max_length", [4, 5, 6, 7, 12, None])
@pytest.mark.parametrize("pad", [False, True])
def test_pairs_are_framed_cut_and_padded_as_by_the_reference(words, max_length, pad):
    if pad and max_length is None:
        return
    ours, reference = words
    lengths = [(first, second) for first in range(7) for second in range(7)]
    firsts, seconds = (["a " * pair[0] for pair in lengths], ["b " * pair[1] for pair in lengths])
    if max_length is None:
        reference.no_truncation()
    else:
        reference.enable_truncation(max_length, strategy="longest_first")
    reference.enable_padding(pad_id=ours.pad_id, length=max_length if pad else None)
    for texts, encoded in (
        (list(zip(firsts, seconds, strict=True)), ours.encode(firsts, seconds, max_length, pad)),
        (firsts, ours.encode(firsts, max_length=max_length, pad_to_max_length=pad)),
    ):
        expected = reference.encode_batch(texts)
        np.testing.assert_array_equal(encoded.ids, [one.ids for one in expected])
        np.testing.assert_array_equal(encoded.segment_ids, [one.type_ids for one in expected])
        np.testing.assert_array_equal(encoded.mask, [one.attention_mask for one in expected])


def test_pairs_are_encoded_in_a_graph_of_any_batch_with_a_static_width(words):
    encode = tf.function(lambda *texts: words[0].encode(*texts, max_length=5, pad_to_max_length=True))
    encode = encode.get_concrete_function(*[tf.TensorSpec([None], tf.string)] * 2)
    assert all(one.shape.as_list() == [None, 5] for one in encode.structured_outputs)
    assert encode(tf.constant(["a"]), tf.constant(["b"])).ids.numpy().tolist() == [[4, 0, 5, 1, 5]]
    assert encode(tf.constant([], tf.string), tf.constant([], tf.string)).ids.shape == (0, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 2}, r"`max_length` counts the 2 special tokens too.*at least 3. Received: max_length=2"),
        ({"second_texts": ["b"], "max_length": 3}, r"at least 4. Received: max_length=3"),
        ({"pad_to_max_length": True}, "`pad_to_max_length` needs a `max_length`"),
    ],
)
def test_lengths_without_room_are_refused(words, options, message):
    with pytest.raises(ValueError, match=message):
        words[0].encode(["a"], **options)


# The way back
def test_detokenizing_joins_pieces_and_parts_words():
    tokenizer = WordPieceTokenizer([*SPECIAL, "un", "##seen", "##", "!"])
    ids = tokenizer.tokenize(["Ünseen  un!", "seen"])
    assert tokenizer.detokenize(ids).numpy().tolist() == [b"unseen un !", "\ufffd".encode()]
    framed = tokenizer.encode(["unseen", "un"])
    assert tokenizer.detokenize(framed.ids).numpy().tolist() == [b"unseen", b"un"]
    assert tokenizer.detokenize([[6, 7, 4, 99, 5]]).numpy()[0].decode() == "seen ## [MASK] \ufffd un"
    assert tokenizer.tokens([[2, 5, 6, 0, -1]]).numpy().tolist() == [[b"[CLS]", b"un", b"##seen", b"[PAD]", b"[UNK]"]]


# Files and exports
def test_a_saved_file_gives_the_same_tokenizer_back(both, tmp_path):
    ours, _ = both
    ours.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.get_config() == ours.get_config()
    assert loaded.tokenize(TEXTS).to_list() == ours.tokenize(TEXTS).to_list()


SERVE = """
import json, sys
import tensorflow as tf
import tensorflow_text
texts, expected = json.load(open(sys.argv[2]))
answer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](tf.constant(texts))
assert answer["ids"].numpy().tolist() == expected, answer
assert not {name.split(".")[0] for name in sys.modules} & {"keras_seqattn", "tokenizers"}
"""


def test_an_export_runs_where_only_tensorflow_and_tensorflow_text_are(tmp_path):
    tokenizer = WordPieceTokenizer.learn(TEXTS)
    served = tf.Module()
    served.answer = tf.function(
        lambda texts: {
            "ids": tokenizer.encode(texts, max_length=9).ids,
            "text": tokenizer.detokenize(tokenizer.tokenize(texts)),
        },
        [tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    tf.saved_model.save(served, tmp_path / "model", signatures=served.answer)
    expected = tokenizer.encode(TEXTS, max_length=9).ids.numpy().tolist()
    (tmp_path / "texts").write_text(json.dumps([TEXTS, expected]))
    command = [sys.executable, "-c", SERVE, str(tmp_path / "model"), str(tmp_path / "texts")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# Learning
def test_frequent_words_are_learned_whole_and_special_tokens_come_first():
    tokenizer = WordPieceTokenizer.learn(
        ["The cat sat on the mat", "the cats sat on the mats"] * 20, vocabulary_size=60
    )
    assert tokenizer.vocabulary[:5] == SPECIAL
    assert (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.start_id, tokenizer.end_id) == (0, 1, 2, 3)
    assert tokenizer.mask_id == 4
    assert tokenizer.tokens(tokenizer.tokenize(["the cat"])).to_list() == [[b"the", b"cat"]]
    assert tokenizer.vocabulary_size <= 60


def test_learning_is_the_same_in_every_process():
    # The library walks through its words in an order that each process draws anew, and each call in a process too.
    learned = [WordPieceTokenizer.learn(TEXTS, vocabulary_size=500).vocabulary for _ in range(5)]
    assert learned[1:] == learned[:-1]


def test_learning_without_room_for_the_characters_is_refused():
    with pytest.raises(ValueError, match=r"room for 5 special tokens and each character.*vocabulary_size=30, where"):
        WordPieceTokenizer.learn(TEXTS, vocabulary_size=30)


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"keras_seqattn\[text\]"):
        WordPieceTokenizer.learn(["abc"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": [*SPECIAL, "a", "b", "a"]}, r"`vocabulary` must hold each token once.*\['a'\]"),
        ({"vocabulary": ["[PAD]", "[UNK]", "[CLS]", "a"]}, r"special tokens too.*4 tokens without \[SEP\], \[MASK\]"),
        ({"vocabulary": SPECIAL, "special_tokens": ["<e>"]}, "without <e>"),
        ({"vocabulary": SPECIAL, "max_word_length": 0}, "`max_word_length` is a number of characters of at least 1"),
    ],
)
def test_what_is_no_vocabulary_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer(**options)
