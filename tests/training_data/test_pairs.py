"""Reading translation pairs: what is read, what is refused with file and line, and where a recipe's pairs come from."""

import gzip
import os
import zipfile
import zlib
from pathlib import Path

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_seqattn.training.data import DataError, Splits, TranslationData, read_pairs, read_parallel
from keras_seqattn.training.data.pairs import SPA_ENG_MEMBER, download_spa_eng, read_spa_eng, split_by_source


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("SEQATTN_DATA", raising=False)


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz"])
def test_pairs_are_read_plain_or_zipped(tmp_path, name):
    path = write(tmp_path / name, "Go.\tVe.\nHi\t¡Hola!\n")
    assert read_pairs(path) == read_pairs(str(path)) == [("Go.", "Ve."), ("Hi", "¡Hola!")]


def test_only_tab_and_newline_separate(tmp_path):
    source, target = 'a "quoted\u2028 line\x85 of\x0b text', "und 'so'\x0c \rweiter\x1c\x1d\u2029"
    assert read_pairs(write(tmp_path / "x.tsv", f"{source}\t{target}\nb\tc")) == [(source, target), ("b", "c")]


def test_one_carriage_return_at_the_end_and_a_byte_order_mark_are_dropped(tmp_path):
    assert read_pairs(write(tmp_path / "x.tsv", "\ufeffa\tb\r\nc\td\r\r\n")) == [("a", "b"), ("c", "d\r")]


texts = st.text(st.characters(exclude_characters="\t\n\r\ufeff", exclude_categories=["Cs"]), min_size=1)
texts = texts.filter(str.strip)


@given(pairs=st.lists(st.tuples(texts, texts), min_size=1))
def test_pairs_written_come_back(tmp_path_factory, pairs):
    content = "".join(f"{source}\t{target}\n" for source, target in pairs)
    assert read_pairs(write(tmp_path_factory.mktemp("pairs") / "x.tsv", content)) == pairs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\nc\n", r"2 columns.*x\.tsv, line 2 with 1: 'c'"),
        ("a\tb\tc\n", r"2 columns.*line 1 with 3"),
        ("a\tb\n\nc\td\n", r"2 columns.*line 2 with 1: ''"),
        ("a\tb\nc\t\n", r"must not be empty.*line 2, column 2"),
        (" \tb\n", r"must not be empty.*line 1, column 1: ' '"),
        (b"a\tb\nc\xff\td\n", r"must be UTF-8.*x\.tsv, line 2, byte 2 of the line is 0xff"),
        (b"a\tb\r\na\t\xc3\n", r"line 2, byte 3 of the line is 0xc3"),
        (b"", r"at least one line.*x\.tsv, which is empty"),
        (b"\xef\xbb\xbf", r"which is empty"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_malformed_pairs_are_refused_with_file_and_line(tmp_path, content, message, suffix):
    with pytest.raises(DataError, match=message.replace(r"\.tsv", rf"\.tsv{suffix}")):
        read_pairs(write(tmp_path / f"x.tsv{suffix}", content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"must exist.*gone\.tsv"):
        read_pairs(tmp_path / "gone.tsv")
    with pytest.raises(DataError, match="must be readable"):
        read_pairs(tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
    whole = gzip.compress(b"source\ttarget\n" * 99)
    for content in (whole[:-9], whole[:30], whole[:-8] + bytes(8), whole[:20] + b"\xff" * 20, b"source\ttarget\n"):
        path = tmp_path / "x.tsv.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"whole gzip file.*x\.tsv\.gz"):
            read_pairs(path)


def test_lines_of_parallel_files_belong_together(tmp_path):
    source, target = write(tmp_path / "train.en", "a\tb\nc"), write(tmp_path / "train.de.gz", "A\nC\n")
    assert read_parallel(source, target) == [("a\tb", "A"), ("c", "C")]


def test_parallel_files_of_different_length_are_refused(tmp_path):
    source, target = write(tmp_path / "t.en", "a\nb\n"), write(tmp_path / "t.de", "A\n")
    with pytest.raises(DataError, match=r"as many lines.*t\.en with 2, .*t\.de with 1"):
        read_parallel(source, target)


def test_an_empty_line_of_a_parallel_file_is_refused(tmp_path):
    source, target = write(tmp_path / "t.en", "a\nb\n"), write(tmp_path / "t.de", "A\n\n")
    with pytest.raises(DataError, match=r"must not be empty.*t\.de, line 2"):
        read_parallel(source, target)


PARTS = Splits(train=[("a", "A"), ("b", "B")], validation=[("c", "C")], test=[("d", "D")])


def lines(pairs):
    return "".join(f"{source}\t{target}\n" for source, target in pairs)


def column(pairs, index):
    return "".join(f"{pair[index]}\n" for pair in pairs)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_of_column_files_is_read(tmp_path, suffix):
    for name, pairs in (("train", PARTS.train), ("val", PARTS.validation), ("test", PARTS.test)):
        write(tmp_path / f"{name}.tsv{suffix}", lines(pairs))
    assert TranslationData(str(tmp_path)).load() == PARTS


def write_parallel(folder, languages=("en", "de"), test="test_2016_flickr"):
    for name, pairs in (("train", PARTS.train), ("val", PARTS.validation), (test, PARTS.test)):
        for index, language in enumerate(languages):
            write(folder / f"{name}.{language}.gz", column(pairs, min(index, 1)))


def test_a_folder_of_a_file_a_language_is_read(tmp_path):
    write_parallel(tmp_path)
    assert TranslationData(str(tmp_path)).load() == PARTS


def test_among_several_languages_the_target_must_be_told(tmp_path):
    write_parallel(tmp_path, ("en", "de", "fr"))
    with pytest.raises(DataError, match=r"`target_language`.*train\.de, train\.en, train\.fr.*None"):
        TranslationData(str(tmp_path)).load()
    assert TranslationData(str(tmp_path), target_language="fr").load() == PARTS
    assert TranslationData(str(tmp_path), source_language="de", target_language="en").load().test == [("D", "d")]
    with pytest.raises(DataError, match="target_language='cs'"):
        TranslationData(str(tmp_path), target_language="cs").load()


def test_of_several_test_sets_the_first_that_has_both_languages_is_read(tmp_path):
    write_parallel(tmp_path)
    write(tmp_path / "test_2015.en", "x\n")
    for language in ("en", "de"):
        write(tmp_path / f"test_2017.{language}", "later\n")
    assert TranslationData(str(tmp_path)).load() == PARTS


def test_a_missing_part_is_named(tmp_path):
    write(tmp_path / "train.tsv", lines(PARTS.train))
    with pytest.raises(DataError, match=r"part validation.*which has nothing"):
        TranslationData(str(tmp_path)).load()


def test_reversed_data_swap_source_and_target(tmp_path):
    write_parallel(tmp_path)
    assert TranslationData(str(tmp_path), is_reversed=True).load().train == [("A", "a"), ("B", "b")]


def test_a_single_file_is_split_by_the_source(tmp_path):
    pairs = [(f"source {number}", target) for number in range(500) for target in "xy"]
    splits = TranslationData(str(write(tmp_path / "all.tsv", lines(pairs)))).load()
    for part, buckets in ((splits.test, range(2)), (splits.validation, range(2, 4)), (splits.train, range(4, 100))):
        expected = [pair for pair in pairs if zlib.crc32(pair[0].encode()) % 100 in buckets]
        assert part == expected and part


def test_a_file_too_small_for_three_parts_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"at least one pair.*validation has none"):
        TranslationData(str(write(tmp_path / "all.tsv", "a\tb\n"))).load()


def test_the_environment_names_a_folder_of_data_sets(tmp_path, monkeypatch):
    write_parallel(tmp_path / "multi30k")
    monkeypatch.setenv("SEQATTN_DATA", str(tmp_path))
    assert TranslationData(data_set="multi30k").load() == PARTS
    assert TranslationData(str(tmp_path), data_set="multi30k").load() == PARTS
    monkeypatch.setenv("SEQATTN_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="SEQATTN_DATA must name"):
        TranslationData().load()
    with pytest.raises(DataError, match="--data"):
        TranslationData(str(tmp_path / "gone")).load()


def test_a_path_goes_before_the_environment(tmp_path, monkeypatch):
    write_parallel(tmp_path / "mine")
    monkeypatch.setenv("SEQATTN_DATA", str(tmp_path / "gone"))
    assert TranslationData(str(tmp_path / "mine")).load() == PARTS


def test_what_has_no_public_origin_is_not_downloaded():
    with pytest.raises(DataError, match=r"Only spa_eng can be downloaded.*multi30k"):
        TranslationData(data_set="multi30k").load()


def archive(path, content, member=SPA_ENG_MEMBER):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)
    return path


def test_without_path_or_environment_the_public_archive_is_fetched(tmp_path, monkeypatch):
    path = archive(tmp_path / "spa-eng.zip", lines((f"source {number}", "x") for number in range(500)))
    asked = []
    monkeypatch.setattr(keras.utils, "get_file", lambda name, origin: asked.append(origin) or str(path))
    splits = TranslationData().load()
    assert len(splits.train + splits.validation + splits.test) == 500
    assert asked == ["https://storage.googleapis.com/download.tensorflow.org/data/spa-eng.zip"]
    assert len(download_spa_eng()) == 500


def test_a_damaged_download_is_named(tmp_path):
    path = write(tmp_path / "spa-eng.zip", b"<html>not found</html>")
    with pytest.raises(DataError, match=r"delete it.*spa-eng\.zip"):
        read_spa_eng(path)
    with pytest.raises(DataError, match=r"must hold spa-eng/spa\.txt"):
        read_spa_eng(archive(path, "a\tb\n", member="other.txt"))
    with pytest.raises(DataError, match=r"spa\.txt, line 1 with 1"):
        read_spa_eng(archive(path, "a\n"))


def test_the_fingerprint_changes_with_content_order_and_part():
    fingerprint = PARTS.fingerprint
    assert fingerprint == "b74fd9a9ddaf6832e0f24820301b18b941da88968c3c934022d5bf0458b31b26"
    others = [
        Splits(PARTS.train[::-1], PARTS.validation, PARTS.test),
        Splits(PARTS.train + PARTS.validation, [], PARTS.test),
        Splits(PARTS.train, PARTS.validation, [("D", "d")]),
        Splits([("a", "A"), ("bB", "")], PARTS.validation, PARTS.test),
        Splits([("a", "A"), ("", "bB")], PARTS.validation, PARTS.test),
        Splits([("a", "A1:b1:B"), ("b", "B")], PARTS.validation, PARTS.test),
    ]
    assert len({fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)


@pytest.fixture(scope="module")
def data_folder():
    folder = os.environ.get("SEQATTN_DATA")
    if not folder:
        pytest.skip("SEQATTN_DATA is not set")
    return Path(folder)


@pytest.mark.data
def test_the_real_pairs_are_split_as_their_folder_says(data_folder):
    splits = TranslationData(str(data_folder)).load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (114212, 2394, 2358)
    assert split_by_source(splits.train + splits.validation + splits.test) == splits


@pytest.mark.data
def test_the_real_parallel_files_are_read(data_folder):
    splits = TranslationData(str(data_folder), data_set="multi30k").load()
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (29000, 1014, 1000)
    assert splits.test[0][1].startswith("Ein Mann mit einem orangefarbenen Hut")
