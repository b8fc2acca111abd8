"""The pages of README.md and docs/, and the blocks of code in them.

A block begins with its language, and with what it needs beside itself: "python" runs alone, "python with a server"
where a test has started one.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w[^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    """The blocks of a page in a language."""
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page):
    """The lines of a page's blocks in bash."""
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]


def run_python(page):
    """Runs the blocks of a page in Python, in their order, as one program."""
    names = {"__name__": "page"}
    for text in blocks(page, "python"):
        exec(compile(text, str(page), "exec"), names)
