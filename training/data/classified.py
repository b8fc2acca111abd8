"""Texts with a label each: TSV files, plain or .gz, UTF-8.

Lines end at "\\n" alone and columns at TAB alone: a text may hold the other separators of Unicode, and quotes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .pairs import ENVIRONMENT_VARIABLE, PART_NAMES, DataError, read_lines, require_text
from .splits import Splits


class DataSet(NamedTuple):
    """The files of a published set.

    Attributes:
        folder: where they lie, in the folder that holds several sets.
        files: of each part, without .tsv or .tsv.gz; a set without a validation part has some of its training part.
        header: the first line's columns.
        text, label: two of them.
        names: of the classes, from their labels; empty where labels are names.
    """

    folder: str
    files: Mapping[str, str]
    header: tuple[str, ...]
    text: str
    label: str
    names: Mapping[str, str] = {}


def sst(classes: int, *names: str) -> DataSet:
    """The sentences of the Stanford Sentiment Treebank (Socher et al. 2013) in so many classes."""
    files = {
        part: f"sst{classes}_{name}" for part, name in (("train", "train"), ("validation", "dev"), ("test", "test"))
    }
    numbered = {str(number): name for number, name in enumerate(names)}
    return DataSet("sst", files, ("sentence", "label"), "sentence", "label", numbered)


def trec(label: str) -> DataSet:
    """The questions of TREC (Li and Roth 2002), by what they ask for."""
    return DataSet("trec", {"train": "train", "test": "test"}, ("coarse", "fine", "question"), "question", label)


DATA_SETS = {
    "sst2": sst(2, "negative", "positive"),
    "sst5": sst(5, "very negative", "negative", "neutral", "positive", "very positive"),
    "trec_coarse": trec("coarse"),
    "trec_fine": trec("fine"),
}


class Row(NamedTuple):
    """A text, its label, and where both stand."""

    text: str
    label: str
    place: str


@dataclass(frozen=True)
class ClassifiedTexts(Splits):
    """(text, label) pairs in three parts.

    Attributes:
        labels: the name of each class; what the pairs hold is among them.
    """

    labels: tuple[str, ...] = field(kw_only=True)


def read_classified(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a file of two columns, text and label; a first line whose second column is "label" is a header.

    Raises: DataError that names the file and the line: not 2 columns, an empty one, no UTF-8, no whole gzip file.
    """
    lines = read_lines(path)
    header = lines[0].split("\t")
    skipped = int(len(header) == 2 and header[1].strip().lower() == "label")
    return read_rows(lines, str(path), ("text", "label"), "text", "label", skipped)


def read_rows(lines: Sequence[str], name: str, columns: tuple[str, ...], text: str, label: str, skip: int) -> list[Row]:
    rows = []
    for number, line in enumerate(lines[skip:], start=skip + 1):
        values = line.split("\t")
        if len(values) != len(columns):
            raise DataError(
                f"A line must be {', TAB, '.join(columns)}: {len(columns)} columns. Received: {name}, line {number} "
                f"with {len(values)}: {line[:60]!r}."
            )
        require_text(values, name, number)
        found = dict(zip(columns, values, strict=True))
        rows.append(Row(found[text], found[label].strip(), f"{name}, line {number}"))
    if not rows:
        raise DataError(f"A data file must hold a line that is not its header. Received: {name}, which has none.")
    return rows


def load_classified(path: str | None = None, data_set: str = "tsv") -> ClassifiedTexts:
    """Texts and labels in three parts.

    Args:
        path: where `data_set` is "tsv", a file of two columns, text and label, plain or .gz, or a folder of train, val
            and test as such files (.tsv or .tsv.gz); else the folder of the set, or one that holds it. None means the
            folder that SEQATTN_DATA names.
        data_set: "tsv", or a published set: "sst2", "sst5", "trec_coarse" or "trec_fine".
    Returns: parts by the files. A single file is cut 8 : 1 : 1 by the text's crc32, so all copies of a text are in one
        part on every machine; where only a validation part is missing, a tenth of the training part is put aside so.
    Raises: DataError that names the file, and the line where one is malformed.
    """
    root = path or os.environ.get(ENVIRONMENT_VARIABLE)
    if not root or (data_set == "tsv" and not path):
        wanted = "a .tsv of text and label" if data_set == "tsv" else f"the folder of {data_set}"
        raise DataError(f"Texts with labels are nowhere to be downloaded: give {wanted} as `path` (--data).")
    place = Path(root)
    if not place.exists():
        given_by = "`path` (--data)" if path else ENVIRONMENT_VARIABLE
        raise DataError(f"{given_by} must name a file or folder that exists. Received: {place}.")
    names: Mapping[str, str] = {}
    if data_set != "tsv":
        parts, names = read_published(place, data_set), DATA_SETS[data_set].names
    elif place.is_dir():
        parts = {part: read_classified(file) for part, file in own_files(place).items()}
    else:
        parts = {"train": read_classified(place)}
    # A label that only stands in what is put aside is a class all the same.
    labels = tuple(sorted({row.label for row in parts["train"]}, key=in_order))
    return in_parts(cut(parts), labels, names)


def read_published(place: Path, data_set: str) -> dict[str, list[Row]]:
    """The parts of a published set that have files."""
    if data_set not in DATA_SETS:
        raise DataError(f"The data sets are tsv, {', '.join(DATA_SETS)}. Received: {data_set=}.")
    known = DATA_SETS[data_set]
    folder = place / known.folder if (place / known.folder).is_dir() else place
    parts = {}
    for part, stem in known.files.items():
        file = a_file(folder, (stem,))
        if file is None:
            raise DataError(
                f"The set {data_set} has a file {stem}.tsv, plain or .gz, in its folder {known.folder}. "
                f"Received: {place}, which has none."
            )
        lines = read_lines(file)
        if tuple(lines[0].split("\t")) != known.header:
            raise DataError(
                f"The first line of a file of {data_set} must be {', TAB, '.join(known.header)}. "
                f"Received: {file}, line 1: {lines[0][:60]!r}."
            )
        parts[part] = read_rows(lines, str(file), known.header, known.text, known.label, 1)
    return parts


def own_files(folder: Path) -> dict[str, Path]:
    """The file of each part; validation may be missing."""
    files = {part: a_file(folder, names) for part, names in PART_NAMES.items()}
    missing = [PART_NAMES[part][0] for part in ("train", "test") if files[part] is None]
    if missing:
        raise DataError(
            "A folder must hold train.tsv and test.tsv, and may hold val.tsv, each plain or .gz. "
            f"Received: {folder}, which has no {' and no '.join(f'{name}.tsv' for name in missing)}."
        )
    return {part: file for part, file in files.items() if file is not None}


def a_file(folder: Path, stems: Sequence[str]) -> Path | None:
    """The first file there is of these names."""
    files = (folder / f"{stem}{ending}" for stem in stems for ending in (".tsv", ".tsv.gz"))
    return next((file for file in files if file.is_file()), None)


def in_order(label: str) -> tuple[int, int, str]:
    """Numbers as numbers, before names."""
    return (0, int(label), "") if label.isascii() and label.isdigit() else (1, 0, label)


def cut(parts: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """All three parts, those that have no rows cut out of the training part."""
    buckets = {"test": 0, "validation": 1}
    missing = {bucket: part for part, bucket in buckets.items() if part not in parts}
    found: dict[str, list[Row]] = {"train": [], "validation": [], "test": [], **{**parts, "train": []}}
    for row in parts["train"]:
        found[missing.get(zlib.crc32(row.text.encode("utf-8")) % 10, "train")].append(row)
    return found


def in_parts(parts: Mapping[str, Sequence[Row]], labels: tuple[str, ...], names: Mapping[str, str]) -> ClassifiedTexts:
    """The parts with their classes' names.

    Raises: DataError when there is one label only, a part is empty, or has a label that no text to train on has.
    """
    if len(labels) < 2:
        raise DataError(f"A classifier tells two labels apart at least. Received: {labels[0]!r} alone.")
    pairs = {}
    for part, rows in parts.items():
        if not rows:
            raise DataError(f"Each part must hold at least one text. Received: {part} with none.")
        for row in rows:
            if row.label not in labels:
                raise DataError(
                    f"A label must stand in the training part too. Received: {row.place}: {row.label[:60]!r}."
                )
        pairs[part] = [(row.text, names.get(row.label, row.label)) for row in rows]
    return ClassifiedTexts(**pairs, labels=tuple(names.get(label, label) for label in labels))
