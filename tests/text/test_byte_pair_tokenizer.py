"""GPT-2's tokens: the ids of Hugging Face's own tokenizer, for any text; any bytes come back; exports, learning."""

import json
import re
import subprocess
import sys

import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_seqattn.text import BytePairTokenizer, load_tokenizer
from keras_seqattn.text.byte_pair_tokenizer import BYTE_CHARACTERS, split_words

END = "<|endoftext|>"
TEXTS = [
    "No,  it isn't.\r\n\tBut  it was ",
    "",
    " ",
    "  two before, two after  ",
    "\n\n\n  \n a\n\n\nb \t\v\f\x85\u2028\u2029",
    "It's we'll they've I'm he'd you're don't 'sx ''s 's's '\u0301s 'S it’s",
    "¿Dónde está la biblioteca?",
    "我们在学习。今日は、世界",
    "123 45.6 ٢٠٢١ Ⅷ ½ x² snake_case (3.14)",
    "مرحبًا بالعالم، ٢٠٢١",
    "नमस्ते दुनिया",
    "ภาษาไทยไม่มีช่องว่าง",
    "👩‍👩‍👧 🏳️‍🌈 👍🏽",
    "e\u0301 x\u00a0\u00a0y \u3000z\x1c q a\x00b \x00 \ufeffmark \ufffd",
    "aaaaaaa aaaa aaa aa",
    f"{END}a{END}{END} <|endoftext |>",
]


def train(texts, add_prefix_space=False, vocab_size=700):
    """A tokenizer as GPT-2's, by the library that theirs is made with."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=BYTE_CHARACTERS, special_tokens=[END], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def ours_from(reference, **options):
    model = json.loads(reference.to_str())["model"]
    return BytePairTokenizer(sorted(model["vocab"], key=model["vocab"].get), model["merges"], **options)


def ids_of(reference, texts):
    return [found.ids for found in reference.encode_batch(texts)]


@pytest.fixture(scope="module", params=[False, True], ids=["", "prefix_space"])
def both(request):
    reference = train(TEXTS * 2, request.param)
    return ours_from(reference, keep_special_tokens=True, add_prefix_space=request.param), reference


def strings(tensor):
    return [text.decode("utf-8") for text in tensor.numpy()]


def test_ids_are_those_of_the_reference(both):
    ours, reference = both
    assert ours.tokenize(TEXTS).to_list() == ids_of(reference, TEXTS)


# Where the code has cases: kinds of spaces, apostrophes with and without letters, classes of characters.
awkward = st.lists(
    st.sampled_from([*" \n\t'’sdtrevlm12aéñ我👍\u0301!?\u00a0\x85\x00\ufeff<|>", END, " the", "'ll", "'re", "  "]),
    max_size=20,
).map("".join)


@given(texts=st.lists(st.text(max_size=20) | awkward, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_any_text_gives_the_ids_of_the_reference(both, texts):
    ours, reference = both
    assert ours.tokenize(texts).to_list() == ids_of(reference, texts)


def test_transformers_gives_the_same_ids(both):
    import transformers

    ours, reference = both
    model = json.loads(reference.to_str())["model"]
    theirs = transformers.GPT2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        add_prefix_space=ours.add_prefix_space,
    )
    texts = [text for text in TEXTS if text]
    assert ours.tokenize(texts).to_list() == theirs(texts)["input_ids"]


def test_pairs_are_merged_by_rank_and_from_the_left():
    merges = [("a", "a"), ("b", "aa"), ("aa", "a"), ("c", "b"), ("b", "c"), ("cb", "c")]
    tokenizer = BytePairTokenizer([*BYTE_CHARACTERS, *("".join(pair) for pair in merges), END], merges)
    expected = {"aaa": "aaa", "aaaa": "aa aa", "baaa": "baa a", "cbc": "cbc", "bcb": "b cb", "abaab": "a baa b"}
    tokens = tokenizer.tokens(tokenizer.tokenize(list(expected)))
    assert [" ".join(strings(row)) for row in tokens] == list(expected.values())


def test_without_merges_the_tokens_are_bytes():
    tokenizer = BytePairTokenizer([*BYTE_CHARACTERS, END], [])
    assert tokenizer.tokenize(["é a"]).to_list() == [[0xC3, 0xA9, 0x20, 0x61]]
    assert strings(tokenizer.tokens(tokenizer.tokenize(["é a\n"])[0])) == ["\\xc3", "\\xa9", "▁", "a", "\\n"]


@given(
    content=st.binary(max_size=20) | st.lists(st.sampled_from([b"\xff", b"\xe4\xb8", b" ", b"a", b"'s"])).map(b"".join)
)
@settings(max_examples=25, deadline=None)
def test_any_bytes_come_back(both, content):
    plain = BytePairTokenizer(both[0].vocabulary, both[0].merges)
    assert plain.detokenize(plain.tokenize([content, b"", content])).numpy().tolist() == [content, b"", content]


def test_long_words_take_no_long_time():
    tokenizer = ours_from(train(["我们在学习" * 9, "abcdefgh" * 9]))
    texts = ["我们在学习" * 600, "abcdefgh" * 999, "x" * 9999]
    assert strings(tokenizer.detokenize(tokenizer.tokenize(texts))) == texts


WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[a-z]+| ?[0-9]+| ?[^\sa-z0-9]+|\s+(?!\S)|\s+")  # GPT-2's, of ASCII


@given(texts=st.lists(st.text("abstrevlmd'1 \n!", max_size=12), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_words_are_those_of_the_regular_expression(texts):
    content, word, text = (one.numpy().tolist() for one in split_words(tf.constant(texts)))
    found = {}
    for byte, *place in zip(content, text, word, strict=True):
        found[tuple(place)] = found.get(tuple(place), "") + chr(byte)
    expected = [(i, word) for i, text in enumerate(texts) for word in WORDS.findall(text)]
    assert [(i, word) for (i, _), word in found.items()] == expected


# Special tokens
def test_special_tokens_in_a_text_are_kept_whole_only_when_asked():
    reference = train(TEXTS)
    kept, plain = ours_from(reference, keep_special_tokens=True), ours_from(reference)
    assert kept.tokenize([f"a{END}"]).to_list()[0][-1] == kept.end_id
    assert plain.end_id not in plain.tokenize([f"a{END}"]).to_list()[0]
    assert strings(plain.detokenize(plain.tokenize([f"a{END}b"]))) == [f"a{END}b"]


def test_one_token_may_play_all_parts_and_padding_none():
    tokenizer = BytePairTokenizer([*BYTE_CHARACTERS, END], [])
    assert (tokenizer.start_id, tokenizer.end_id, tokenizer.unknown_id, tokenizer.pad_id) == (256, 256, 256, None)
    assert tokenizer.special_tokens == (END,) and tokenizer.special_ids == (256,)
    assert tokenizer.vocabulary_size == 257
    assert strings(tokenizer.detokenize([[97, 98, 256, 0, 0], [97, 0, 0, 0, 0]])) == ["ab", "a\x00\x00\x00\x00"]
    assert strings(tokenizer.detokenize(tf.ragged.constant([[97], [], [97, 98, 99]]))) == ["a", "", "abc"]
    assert strings(tokenizer.detokenize([[97, -1, 257, 98]])) == ["a\ufffd\ufffdb"]


def test_further_special_tokens_are_kept_whole_and_the_longer_one_counts():
    vocabulary = [*BYTE_CHARACTERS, END, "<|a|>", "<|a|>b"]
    tokenizer = BytePairTokenizer(vocabulary, [], special_tokens=vocabulary[-2:], keep_special_tokens=True)
    assert tokenizer.tokenize(["<|a|>c<|a|>b<|a|>", f"{END} "]).to_list() == [[257, 99, 258, 257], [256, 32]]


# Files and exports
def test_a_saved_file_gives_the_same_tokenizer_back(both, tmp_path):
    both[0].save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.get_config() == both[0].get_config()
    assert loaded.tokenize(TEXTS).to_list() == both[0].tokenize(TEXTS).to_list()


SERVE = """
import json, sys
import tensorflow as tf
texts, expected = json.load(open(sys.argv[2]))
answer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](tf.constant(texts))
assert answer["ids"].numpy().tolist() == expected, answer
assert [text.decode() for text in answer["text"].numpy()] == texts
assert not {name.split(".")[0] for name in sys.modules} & {"keras_seqattn", "tokenizers", "tensorflow_text"}
"""


def test_an_export_runs_where_only_tensorflow_is(tmp_path):
    tokenizer = BytePairTokenizer.learn(TEXTS, vocabulary_size=500)
    served = tf.Module()

    def answer(texts):
        ids = tokenizer.tokenize(texts)
        return {"ids": ids.to_tensor(), "text": tokenizer.detokenize(ids)}

    served.answer = tf.function(answer, [tf.TensorSpec([None], tf.string)], autograph=False)
    tf.saved_model.save(served, tmp_path / "model", signatures=served.answer)
    (tmp_path / "texts").write_text(json.dumps([TEXTS, tokenizer.tokenize(TEXTS).to_tensor().numpy().tolist()]))
    command = [sys.executable, "-c", SERVE, str(tmp_path / "model"), str(tmp_path / "texts")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# Learning
def test_learning_gives_the_ids_of_the_library_that_learned():
    text = ["the cat sat on the mat", "the cats sat on the mats"] * 20
    tokenizer = BytePairTokenizer.learn(text, vocabulary_size=300)
    assert tokenizer.vocabulary[:4] == ["<pad>", "<s>", "</s>", "<unk>"] and tokenizer.vocabulary_size <= 300
    assert strings(tokenizer.tokens(tokenizer.tokenize(["the cats\n"])[0])) == ["the", "▁cats", "\\n"]


@pytest.mark.parametrize("vocabulary_size", [259, 100])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(vocabulary_size):
    with pytest.raises(ValueError, match=rf"room for 4 special tokens and 256 bytes.*{vocabulary_size=}"):
        BytePairTokenizer.learn(TEXTS, vocabulary_size=vocabulary_size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": ["a", END]}, r"`vocabulary` must hold all 256 bytes.*without 0x00, 0x01, .* and others"),
        ({"vocabulary": [*BYTE_CHARACTERS, "a", END]}, r"each token once.*\['a'\]"),
        ({"vocabulary": BYTE_CHARACTERS}, r"special tokens too.*256 tokens without <\|endoftext\|>"),
        ({"merges": [("a", "b")]}, r"`merges` must hold pairs .*Received: \('a', 'b'\), where .*lacks \['ab'\]"),
        ({"merges": [("a",)]}, "`merges` must hold pairs"),
    ],
)
def test_what_is_no_vocabulary_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer(**{"vocabulary": [*BYTE_CHARACTERS, END], "merges": [], **options})
