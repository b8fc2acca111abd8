"""Translation pairs: a file of two columns, or two files whose lines belong together; plain or .gz, UTF-8.

Lines end at "\\n" alone and columns at TAB alone: a text may hold the other separators of Unicode, and quotes.
"""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .splits import Pair, Splits

ENVIRONMENT_VARIABLE = "SEQATTN_DATA"
# No checksum: none is published with the archive, so its content is as trustworthy as the connection.
SPA_ENG_ORIGIN = "https://storage.googleapis.com/download.tensorflow.org/data/spa-eng.zip"
SPA_ENG_MEMBER = "spa-eng/spa.txt"
PART_NAMES = {"train": ("train",), "validation": ("val", "valid", "validation", "dev"), "test": ("test",)}


class DataError(ValueError):
    """A data file that is not what it should be; says which file, and which line of it."""


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file, without their ends; a byte order mark at the front is dropped.

    Raises: DataError when the file is missing, empty, not UTF-8, or not the whole of a gzip file.
    """
    return decode_lines(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, unpacked where its name ends in .gz."""
    path = Path(path)
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"A data file must exist. Received: {path}, which does not.") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"A file named .gz must be a whole gzip file. Received: {path}: {error}") from error
    except OSError as error:
        raise DataError(f"A data file must be readable. Received: {path}: {error}") from error


def decode_lines(content: bytes, name: str) -> list[str]:
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1]:
        lines.pop()  # the end of the last line, not a line more
    if not lines:
        raise DataError(f"A data file must hold at least one line. Received: {name}, which is empty.")
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"A data file must be UTF-8. Received: {name}, line {number}, byte {error.start + 1} of the line is "
                f"0x{line[error.start]:02x} ({error.reason})."
            ) from error
    return texts


def split_columns(lines: Iterable[str], name: str) -> list[Pair]:
    pairs = []
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise DataError(
                f"A line must be source, TAB, target: 2 columns. Received: {name}, line {number} with {len(columns)}: "
                f"{line[:60]!r}."
            )
        require_text(columns, name, number)
        pairs.append((columns[0], columns[1]))
    return pairs


def require_text(columns: Sequence[str], name: str, number: int) -> None:
    for column, text in enumerate(columns, start=1):
        if not text.strip():
            raise DataError(f"A text must not be empty. Received: {name}, line {number}, column {column}: {text!r}.")


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """(source, target) of each line of a file of two columns.

    Raises: DataError that names the file and the line: not 2 columns, an empty one, no UTF-8, no whole gzip file.
    """
    return split_columns(read_lines(path), str(path))


def read_parallel(source_path: str | os.PathLike[str], target_path: str | os.PathLike[str]) -> list[Pair]:
    """(source, target) where line i of one file is the translation of line i of the other.

    Raises: DataError that names the file and the line: different numbers of lines, an empty line, no UTF-8, no whole
        gzip file.
    """
    sources, targets = read_lines(source_path), read_lines(target_path)
    if len(sources) != len(targets):
        raise DataError(
            "Line i of one file is the translation of line i of the other, so both must have as many lines. "
            f"Received: {source_path} with {len(sources)}, {target_path} with {len(targets)}."
        )
    for path, lines in ((source_path, sources), (target_path, targets)):
        for number, line in enumerate(lines, start=1):
            require_text([line], str(path), number)
    return list(zip(sources, targets, strict=True))


def split_by_source(pairs: Iterable[Pair]) -> Splits:
    """96 : 2 : 2 by the source's crc32, so all translations of a sentence stay in one part, on every machine.

    crc32 mod 100 is 0 or 1 for test, 2 or 3 for validation.
    """
    train: list[Pair] = []
    validation: list[Pair] = []
    test: list[Pair] = []
    for pair in pairs:
        bucket = zlib.crc32(pair[0].encode("utf-8")) % 100
        (test if bucket < 2 else validation if bucket < 4 else train).append(pair)
    return Splits(train, validation, test)


@dataclass(frozen=True)
class TranslationData:
    """Where a recipe's translation pairs come from; `load` reads them.

    What `path` names: a folder of train, val and test, each as one .tsv of two columns or as one file a language (as in
    Multi30k: train.en, train.de, ...), each plain or .gz; or a single .tsv, which is split by its source sentences; or
    a folder in which `data_set` is such a folder. None means the folder that SEQATTN_DATA names; where that is unset
    too, spa_eng is downloaded.

    Args:
        path: file or folder, or None.
        data_set: "spa_eng" (English to Spanish) or "multi30k" (English to German), when it is not in `path` itself.
        source_language: suffix of the source's files where each language has its own, such as "en".
        target_language: of the target's; None takes the other language of two.
        is_reversed: swap source and target, for columns that stand the other way round.
    """

    path: str | None = None
    data_set: str = "spa_eng"
    source_language: str = "en"
    target_language: str | None = None
    is_reversed: bool = False

    def load(self) -> Splits:
        """The three parts.

        Raises: DataError that names what is missing or malformed.
        """
        splits = self._load()
        for part in PART_NAMES:
            if not getattr(splits, part):
                raise DataError(f"Each part must hold at least one pair. Received: {self.path}, whose {part} has none.")
        if self.is_reversed:
            train, validation, test = (
                [(target, source) for source, target in part] for part in (splits.train, splits.validation, splits.test)
            )
            return Splits(train, validation, test)
        return splits

    def _load(self) -> Splits:
        root = self.path or os.environ.get(ENVIRONMENT_VARIABLE)
        if not root:
            if self.data_set != "spa_eng":
                raise DataError(
                    f"Only spa_eng can be downloaded. For {self.data_set}, give `path` (--data) or set "
                    f"{ENVIRONMENT_VARIABLE} to a folder that holds a folder {self.data_set}."
                )
            return split_by_source(download_spa_eng())
        path = Path(root)
        if not path.exists():
            given_by = "`path` (--data)" if self.path else ENVIRONMENT_VARIABLE
            raise DataError(f"{given_by} must name a file or folder that exists. Received: {path}.")
        if path.is_file():
            return split_by_source(read_pairs(path))
        if (path / self.data_set).is_dir():
            path = path / self.data_set
        train, validation, test = (self._load_part(path, part) for part in PART_NAMES)
        return Splits(train, validation, test)

    def _load_part(self, folder: Path, part: str) -> list[Pair]:
        names = PART_NAMES[part]
        for name in names:
            for file in (folder / f"{name}.tsv", folder / f"{name}.tsv.gz"):
                if file.exists():
                    return read_pairs(file)
        sets = parallel_files(folder, names)
        source = self.source_language
        for files in sets.values():
            others = sorted(set(files) - {source})
            target = self.target_language or (others[0] if len(others) == 1 else "")
            if source in files and target in files:
                return read_parallel(files[source], files[target])
        found = [f"{stem}.{language}" for stem, files in sets.items() for language in sorted(files)]
        raise DataError(
            f"For its part {part}, a folder must hold {names[0]}.tsv, or {names[0]}.{source} and {names[0]}.TARGET, "
            f"where TARGET is `target_language` or else the one other language there is; each plain or .gz. "
            f"Received: {folder}, which has {', '.join(found) or 'nothing'} for it, and "
            f"target_language={self.target_language!r}."
        )


def parallel_files(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Path]]:
    """The sets of a part's files by their stem, each as {language: file}: NAME.LANGUAGE or NAME_ANYTHING.LANGUAGE.

    Multi30k has a test set a year, test_2016_flickr the first of them.
    """
    sets: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        stem, _, language = file.name.removesuffix(".gz").rpartition(".")
        if any(stem == name or stem.startswith(f"{name}_") for name in names):
            sets.setdefault(stem, {}).setdefault(language, file)
    return sets


def download_spa_eng() -> list[Pair]:
    """English-Spanish sentence pairs of Tatoeba (CC BY 2.0), from TensorFlow's copy; kept in Keras's cache folder."""
    import keras

    path = keras.utils.get_file("spa-eng.zip", origin=SPA_ENG_ORIGIN)  # shows its own progress bar
    return read_spa_eng(path)


def read_spa_eng(path: str | os.PathLike[str]) -> list[Pair]:
    """The pairs in the archive, in its order.

    Raises: DataError that names the archive when it is damaged; deleting it makes the next run download it again.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(SPA_ENG_MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"The archive must hold {SPA_ENG_MEMBER}; delete it to have it downloaded again. Received: {path}: {error}"
        ) from error
    name = f"{path}:{SPA_ENG_MEMBER}"
    return split_columns(decode_lines(content, name), name)
