"""Tokenizers from the files of Hugging Face's: the same ids, and what we do not have is refused."""

import json

import pytest

from keras_seqattn.checkpoints import load_huggingface_tokenizer
from keras_seqattn.text import BytePairTokenizer, WordPieceTokenizer
from keras_seqattn.text.byte_pair_tokenizer import BYTE_CHARACTERS

pytestmark = pytest.mark.tensorflow_only

TEXTS = ["No,  it isn't: ÑANDÚ  größer", "我们在学习", "مرحبًا نمस्ते 👍🏽 ภาษา", "[MASK] <|endoftext|> x<new>y [SEP]"]
END = "<|endoftext|>"


@pytest.fixture(scope="module")
def wordpieces():
    return WordPieceTokenizer.learn(TEXTS, lowercase=False, vocabulary_size=200).vocabulary


@pytest.fixture(scope="module")
def byte_pairs():
    """A vocabulary and merges, with GPT-2's one special token at the end."""
    learned = BytePairTokenizer.learn(TEXTS * 3, vocabulary_size=300)
    return [*learned.vocabulary[4:], END], learned.merges


def their_bert(wordpieces, **options):
    import transformers

    return transformers.BertTokenizer(vocab={token: i for i, token in enumerate(wordpieces)}, **options)


def their_gpt(byte_pairs, **options):
    import transformers

    vocabulary, merges = byte_pairs
    return transformers.GPT2Tokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges, **options)


def same(ours, theirs):
    return ours.tokenize(TEXTS).to_list() == theirs(TEXTS, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "options",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}],
    ids=lambda options: next(iter(options), "defaults"),
)
@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.txt"])
def test_bert_gives_the_same_ids(tmp_path, wordpieces, options, files):
    theirs = their_bert(wordpieces, **options)
    theirs.save_pretrained(tmp_path)
    if files == "vocab.txt":  # as version 4 wrote it
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in wordpieces), encoding="utf-8")
    ours = load_huggingface_tokenizer(tmp_path)
    assert same(ours, theirs)
    assert (ours.pad_id, ours.unknown_id, ours.start_id, ours.end_id, ours.mask_id) == (0, 1, 2, 3, 4)
    framed = theirs(TEXTS, TEXTS[::-1], padding=True, truncation=True, max_length=16)
    assert ours.encode(TEXTS, TEXTS[::-1], max_length=16).ids.numpy().tolist() == framed["input_ids"]


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json", "old tokenizer.json"])
@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_gpt_gives_the_same_ids(tmp_path, byte_pairs, files, add_prefix_space):
    theirs = their_gpt(byte_pairs, add_prefix_space=add_prefix_space)
    theirs.save_pretrained(tmp_path)
    vocabulary, merges = byte_pairs
    if files == "vocab.json":  # as version 4 wrote it
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif files == "old tokenizer.json":
        content = json.loads((tmp_path / "tokenizer.json").read_text())
        del content["model"]["type"], content["pre_tokenizer"]["use_regex"]
        content["model"]["merges"] = [" ".join(pair) for pair in merges]
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    ours = load_huggingface_tokenizer(tmp_path)
    assert same(ours, theirs)
    end = vocabulary.index(END)
    assert (ours.pad_id, ours.unknown_id, ours.start_id, ours.end_id) == (None, end, end, end)


@pytest.mark.parametrize("kind", ["bert", "gpt"])
@pytest.mark.parametrize("files", ["tokenizer.json", "others"])
def test_added_tokens_are_kept_whole(tmp_path, wordpieces, byte_pairs, kind, files):
    theirs = their_bert(wordpieces) if kind == "bert" else their_gpt(byte_pairs)
    theirs.add_special_tokens({"additional_special_tokens": ["<new>"]})
    theirs.save_pretrained(tmp_path)
    if files == "others":
        content = json.loads((tmp_path / "tokenizer.json").read_text())
        (tmp_path / "tokenizer.json").unlink()
        added = {token["content"]: token["id"] for token in content["added_tokens"] if token["content"] == "<new>"}
        (tmp_path / "added_tokens.json").write_text(json.dumps(added))
        (tmp_path / "vocab.txt").write_text("\n".join(wordpieces), encoding="utf-8")
        if kind == "gpt":
            (tmp_path / "vocab.txt").unlink()
            (tmp_path / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
            (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in byte_pairs[1]))
    ours = load_huggingface_tokenizer(tmp_path)
    assert same(ours, theirs)
    assert len(theirs) - 1 in ours.tokenize(TEXTS).to_list()[-1]
    assert ours.vocabulary_size == len(theirs)


def test_parts_that_other_tokens_play_are_read_from_the_settings(tmp_path, byte_pairs):
    vocabulary, merges = [*byte_pairs[0], "<s>", "</s>", "<pad>"], byte_pairs[1]
    theirs = their_gpt((vocabulary, merges), bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    theirs.save_pretrained(tmp_path)
    ours = load_huggingface_tokenizer(tmp_path)
    assert (ours.start_token, ours.end_token, ours.unknown_token, ours.pad_token) == ("<s>", "</s>", END, "<pad>")
    assert ours.pad_id == len(vocabulary) - 1


def write(folder, kind, wordpieces, byte_pairs, change):
    """A folder of one of theirs, with a change to tokenizer.json."""
    (their_bert(wordpieces) if kind == "bert" else their_gpt(byte_pairs)).save_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bert", lambda c: c["model"].update(type="Unigram"), "of the types WordPiece and BPE.* of type 'Unigram'"),
        ("bert", lambda c: c["normalizer"].update(type="NFKC"), "the normalizer is 'BertNormalizer' or None.*'NFKC'"),
        ("bert", lambda c: c["pre_tokenizer"].update(type="Whitespace"), "the pre-tokenizer is 'BertPreTokenizer'"),
        ("bert", lambda c: c["model"].update(continuing_subword_prefix="@@"), "begin with is '##'.*'@@'"),
        ("bert", lambda c: c["added_tokens"][0].update(single_word=True), r"of '\[PAD\]' `single_word` is False"),
        (
            "bert",
            lambda c: c["added_tokens"][0].update(normalized=True, special=False),
            r"of '\[PAD\]' `normalized` is False",
        ),
        ("bert", lambda c: c["model"]["vocab"].update({"far": 999}), "count from 0.*'far' has id 999"),
        ("gpt", lambda c: c.update(normalizer={"type": "NFC"}), "the normalizer is None.*'NFC'"),
        ("gpt", lambda c: c["pre_tokenizer"].update(use_regex=False), "`use_regex` is True"),
        ("gpt", lambda c: c["pre_tokenizer"].update(type="Sequence"), "the pre-tokenizer is 'ByteLevel'"),
        ("gpt", lambda c: c["model"].update(byte_fallback=True), "`byte_fallback` is None.*True"),
        ("gpt", lambda c: c["added_tokens"][0].update(lstrip=True), "`lstrip` is False"),
    ],
)
def test_what_ours_would_not_do_alike_is_refused(tmp_path, wordpieces, byte_pairs, kind, change, message):
    write(tmp_path, kind, wordpieces, byte_pairs, change)
    with pytest.raises(ValueError, match=message) as raised:
        load_huggingface_tokenizer(tmp_path)
    assert "tokenizer.json" in str(raised.value)


def test_missing_files_are_named(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({char: i for i, char in enumerate(BYTE_CHARACTERS)}))
    with pytest.raises(FileNotFoundError, match=r"or from vocab.json and merges.txt.*of these there is vocab.json"):
        load_huggingface_tokenizer(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match="of these there is none"):
        load_huggingface_tokenizer(tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json must be JSON. Received: .*tokenizer.json"):
        load_huggingface_tokenizer(tmp_path)
