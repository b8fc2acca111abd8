"""The classes of characters, compared with the library by which models were trained: every code point."""

import pytest
import tokenizers

from keras_seqattn.text import unicode_classes

EVERYTHING = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))


def members(characters):
    return {chr(point) for first, last in unicode_classes.ranges(characters) for point in range(first, last + 1)}


def normalized(text, **options):
    nothing = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return tokenizers.normalizers.BertNormalizer(**{**nothing, **options}).normalize_str(text)


@pytest.mark.parametrize(("name", "option"), [("CONTROLS", "clean_text"), ("MARKS", "strip_accents")])
def test_what_bert_drops(name, option):
    suspects = set(EVERYTHING) - set(normalized(EVERYTHING, **{option: True}))  # all else is certainly not dropped
    dropped = {char for char in suspects if normalized(f"a{char}b", **{option: True}) == "ab"}
    assert dropped == members(getattr(unicode_classes, name))


def test_what_bert_takes_for_words_of_their_own():
    chinese = members(unicode_classes.CHINESE)
    expected = "".join(f" {char} " if char in chinese else char for char in EVERYTHING)
    assert normalized(EVERYTHING, handle_chinese_chars=True) == expected
    found = tokenizers.pre_tokenizers.BertPreTokenizer().pre_tokenize_str("aa".join(EVERYTHING))
    assert {word for word, _ in found if len(word) == 1} == members(unicode_classes.PUNCTUATION)
    assert set(EVERYTHING).difference(*(word for word, _ in found)) == members(unicode_classes.SPACES)


@pytest.mark.parametrize(("name", "pattern"), [("SPACES", r"\s"), ("LETTERS", r"\p{L}"), ("NUMBERS", r"\p{N}")])
def test_what_gpt_2_takes_for_spaces_letters_and_numbers(name, pattern):
    cutter = tokenizers.pre_tokenizers.Split(tokenizers.Regex(f"{pattern}+"), "removed")
    others = set().union(*(piece for piece, _ in cutter.pre_tokenize_str(EVERYTHING)))
    assert set(EVERYTHING) - others == members(getattr(unicode_classes, name))


def test_boundaries_tell_the_class_of_any_character():
    points, classes = unicode_classes.boundaries("61-63 65", "64 7a")
    assert (points, classes) == ([0, 0x61, 0x64, 0x65, 0x66, 0x7A, 0x7B], [0, 1, 2, 1, 0, 2, 0])
