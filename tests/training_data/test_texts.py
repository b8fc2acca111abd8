"""Texts in three parts: where they come from, how they are cut, and what is refused."""

import gzip

import keras
import pytest

from keras_seqattn.training.data import DataError, load_text
from keras_seqattn.training.data.texts import ORIGIN, SHA256

TEXT = "".join(f"line {n}: é ü\n" for n in range(100))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("SEQATTN_DATA", raising=False)


def whole(parts):
    return parts.train + parts.validation + parts.test


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_text_is_cut_in_three_and_nothing_is_lost(tmp_path, name):
    parts = load_text(str(write(tmp_path / name, TEXT)))
    assert whole(parts) == TEXT
    assert len(parts.train) == len(TEXT) * 90 // 100
    assert abs(len(parts.validation) - len(parts.test)) <= 1


@pytest.mark.parametrize("place", ["input.txt", "input.txt.gz", "tiny_shakespeare/input.txt.gz"])
def test_a_folder_holds_the_text_and_so_does_the_one_that_the_environment_names(tmp_path, place, monkeypatch):
    write(tmp_path / place, TEXT)
    parts = load_text(str(tmp_path))
    assert whole(parts) == TEXT
    monkeypatch.setenv("SEQATTN_DATA", str(tmp_path))
    assert load_text() == parts
    assert load_text().fingerprint == parts.fingerprint


def test_a_byte_order_mark_and_carriage_returns_at_line_ends_are_dropped(tmp_path):
    content = b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()
    assert whole(load_text(str(write(tmp_path / "a.txt", content)))) == TEXT


def test_another_text_has_another_fingerprint(tmp_path):
    one, other = (load_text(str(write(tmp_path / "a.txt", text))) for text in (TEXT, TEXT[::-1]))
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"`path` \(--data\) must name a file or folder that exists\. Received: .*a\.txt"),
        (b"caf\xe9" * 20, r"must be UTF-8\. Received: .*a\.txt, byte 4 is 0xe9"),
        ("short", r"at least 40 characters\. Received: .*a\.txt, which has 5"),
    ],
    ids=["no file", "not UTF-8", "too short"],
)
def test_what_is_no_text_is_refused_with_its_name(tmp_path, content, message):
    if content is not None:
        write(tmp_path / "a.txt", content)
    with pytest.raises(DataError, match=message):
        load_text(str(tmp_path / "a.txt"))


def test_a_folder_without_a_text_and_half_a_gzip_file_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must hold input\.txt or tiny_shakespeare/input\.txt"):
        load_text(str(tmp_path))
    (tmp_path / "input.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:-9])
    with pytest.raises(DataError, match=r"whole gzip file\. Received: .*input\.txt\.gz"):
        load_text(str(tmp_path))


def test_without_any_it_is_downloaded_and_checked(tmp_path, monkeypatch):
    asked = []

    def get_file(name, origin, file_hash):
        asked.append((origin, file_hash))
        return str(write(tmp_path / name, TEXT))

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert whole(load_text()) == TEXT
    assert asked == [(ORIGIN, SHA256)]
