"""A long text in three parts: to learn a language model from, to watch it by, and to report on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .pairs import ENVIRONMENT_VARIABLE, DataError, read_bytes

DATA_SET, FILE = "tiny_shakespeare", "input.txt"
ORIGIN = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"
    "tinyshakespeare/input.txt"
)
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclass(frozen=True)
class TextParts:
    """A text, cut at two places: what is reported on comes last, and nothing of it was read before."""

    train: str
    validation: str
    test: str

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the parts: the same content, the same fingerprint, on every machine."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            content = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(content), content))
        return digest.hexdigest()


def load_text(path: str | None = None) -> TextParts:
    """The parts of a text: its first 90 %, the next 5 % and the last 5 % of its characters.

    Args:
        path: a text file, plain or .gz, UTF-8; or a folder that holds input.txt or tiny_shakespeare/input.txt. None
            means the folder that SEQATTN_DATA names; where that is unset too, tiny Shakespeare is downloaded.
    Raises: DataError that names the file when it is missing, not UTF-8, or too short to be cut.
    """
    root = path or os.environ.get(ENVIRONMENT_VARIABLE)
    file = find_text(Path(root), "`path` (--data)" if path else ENVIRONMENT_VARIABLE) if root else download()
    text = read_text(file)
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    parts = TextParts(text[:first], text[first:second], text[second:])
    if min(map(len, (parts.train, parts.validation, parts.test))) < 2:
        raise DataError(f"A text must have at least 40 characters. Received: {file}, which has {len(text)}.")
    return parts


def find_text(root: Path, given_by: str) -> Path:
    """The text file that `root` is or holds."""
    if root.is_file():
        return root
    if not root.exists():
        raise DataError(f"{given_by} must name a file or folder that exists. Received: {root}.")
    for folder in (root, root / DATA_SET):
        for file in (folder / FILE, folder / f"{FILE}.gz"):
            if file.is_file():
                return file
    raise DataError(
        f"A folder must hold {FILE} or {DATA_SET}/{FILE}, plain or .gz. Received: {root}, which has neither."
    )


def read_text(path: Path) -> str:
    """The text of a file; a byte order mark at the front is dropped, and lines end at "\\n" alone."""
    content = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"A data file must be UTF-8. Received: {path}, byte {error.start + 1} is 0x{content[error.start]:02x} "
            f"({error.reason})."
        ) from error


def download() -> Path:
    """Tiny Shakespeare from its public origin; kept in Keras's cache folder."""
    import keras

    return Path(keras.utils.get_file(f"{DATA_SET}.txt", origin=ORIGIN, file_hash=SHA256))
