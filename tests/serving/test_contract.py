"""Every rule of docs/serving-contract.md has a test that names it, and no test names another."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from tests.pages import ROOT

PAGE = ROOT / "docs" / "serving-contract.md"
RULE = re.compile(r"^(\d+)\. `([^`]*)`: ", re.MULTILINE)


@functools.cache
def rules() -> tuple[str, ...]:
    """The rules of the page, in its order."""
    return tuple(name for _, name in RULE.findall(PAGE.read_text(encoding="utf-8")))


@functools.cache
def named() -> dict[str, list[str]]:
    """The tests of each rule, as `file:line`, by reading the files: nothing is imported."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, line in marks(file):
            found.setdefault(name, []).append(f"{file.relative_to(ROOT)}:{line}")
    return found


def marks(file: Path) -> Iterator[tuple[str, int]]:
    """The rules in `@pytest.mark.rule("...", ...)`, with their lines."""
    text = file.read_text(encoding="utf-8")
    if "mark.rule" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rule":
            assert node.args, f"{file}:{node.lineno} names no rule"
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"{file}:{node.lineno}: a rule is written out"
                yield str(argument.value), node.lineno


def test_rules_are_numbered_in_their_sections_and_have_names_of_their_own() -> None:
    names = rules()
    assert len(names) > 100
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*", name)] == []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        numbers = [int(number) for number, _ in RULE.findall(section)]
        assert numbers == list(range(1, len(numbers) + 1)), section.splitlines()[0]
        assert len(numbers) == len(re.findall(r"^\d+\. ", section, re.MULTILINE)), section.splitlines()[0]


def test_every_rule_has_a_test() -> None:
    assert [name for name in rules() if name not in named()] == []


def test_every_rule_that_a_test_names_is_on_the_page() -> None:
    assert {name: places for name, places in named().items() if name not in rules()} == {}
