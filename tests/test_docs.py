"""The pages of docs/mechanisms: snippets run, pictures are there, and the commands that drew them are known."""

import importlib.util
import re
import shlex
import sys

import pytest

from keras_seqattn import layers
from tests.pages import ROOT, blocks, commands, run_python

DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "mechanisms").glob("*.md"))
EVERY_PAGE = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#]+)(#[^)]*)?\)")
MOST_BYTES = 60_000  # of a picture: a page is read on a phone, and history keeps every version

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.fixture(scope="module")
def draw():
    spec = importlib.util.spec_from_file_location("draw", DOCS / "draw.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "draw", module)  # its dataclasses look themselves up
        spec.loader.exec_module(module)
        yield module


def drawn_by(draw, page):
    """The pictures that the commands of a page draw."""
    words = [shlex.split(line) for line in commands(page)]
    return [draw.parsed(line[2:]).output for line in words if line[:2] == ["python", "docs/draw.py"]]


def shown(page):
    """The pictures of a page."""
    return [page.parent / path for _, path in PICTURE.findall(page.read_text(encoding="utf-8"))]


@each_page
def test_the_snippets_of_a_page_run(page):
    assert blocks(page, "python"), "a page shows how its mechanism is used"
    run_python(page)


@each_page
def test_the_pictures_of_a_page_are_there_and_are_what_its_commands_draw(page, draw):
    assert shown(page), "a page shows its mechanism at work"
    assert drawn_by(draw, page) == shown(page)
    for picture in shown(page):
        assert picture.read_bytes().startswith(b"\x89PNG"), picture
        assert picture.stat().st_size < MOST_BYTES, picture


@each_page
def test_pictures_are_described_to_those_who_do_not_see_them(page):
    descriptions = [text for text, _ in PICTURE.findall(page.read_text(encoding="utf-8"))]
    assert all(len(text) > 20 for text in descriptions), descriptions


@each_page
def test_a_page_has_equations_symbols_use_trace_and_reference(page):
    text = page.read_text(encoding="utf-8")
    for part in ("$$", "| symbol |", "## When, and what it costs", "**Trace**", "Reference"):
        assert part in text, part


def test_every_picture_is_shown():
    there = set((DOCS / "mechanisms" / "pictures").iterdir())
    assert there == {picture for page in PAGES for picture in shown(page)}


def test_every_kind_of_drawing_is_used(draw):
    used = [draw.parsed(shlex.split(line)[2:]) for page in PAGES for line in commands(page)]
    assert {one.drawing for one in used} == set(draw.DRAWINGS)
    kinds = {one.options["attention"] for one in used if one.drawing == "alignments"}
    assert kinds == set(draw.TASK_OF)


def test_every_attention_of_seq2seq_has_a_picture(draw):
    from keras_seqattn.models.seq2seq import ATTENTIONS

    assert set(draw.TASK_OF) == set(ATTENTIONS)


@pytest.mark.parametrize("name", layers.__all__)
def test_every_public_layer_has_a_page(name):
    assert any(re.search(rf"\b{name}\b", page.read_text(encoding="utf-8")) for page in PAGES)


@each_page
def test_every_page_is_listed(page):
    assert f"mechanisms/{page.name}" in (DOCS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    paths = [path for path, _ in LINK.findall(text) if "://" not in path]
    assert [path for path in paths if not (page.parent / path).exists()] == []


@pytest.mark.parametrize("task", ["dates", "digits", "forms", "phrases"])
def test_the_tasks_make_pairs_that_fit_their_models(draw, task):
    if task == "dates":
        pytest.importorskip("babel")
    task = draw.TASKS[task]
    pairs = task.pairs(200)
    assert pairs == task.pairs(200), "the same for everybody"
    count = (lambda text: len(text.split())) if task.words else len
    lengths = [max(count(source), count(target) + 1) for source, target in [*pairs, (task.text, task.wanted)]]
    assert sum(length <= task.longest for length in lengths) > 0.95 * len(lengths)
    assert lengths[-1] <= task.longest


def test_the_tasks_answers_are_right(draw):
    import random

    assert draw.digit_before("a1b22") == [10, 1, 1, 2, 2]
    ids, last, coming = draw.digits_amid_letters(3)
    text = "".join(draw.ALPHABET[index] for index in ids[0])
    assert list(last[0]) == draw.digit_before(text)
    assert [int(c) for c in text if c.isdigit()] == [n for c, n in zip(text, coming[0], strict=True) if c.isdigit()]
    for _ in range(20):
        spelled, digits = draw.spelled_digits(random.Random(5))
        assert [draw.DIGITS[int(digit)] for digit in digits] == spelled.split()


def test_an_option_of_another_cell_is_refused(draw, capsys):
    assert draw.main(["gates", "--cell", "gru", "--coupled-gates"]) == 1
    assert "--coupled-gates" in capsys.readouterr().err


def test_a_picture_that_needs_no_training_is_drawn(draw, tmp_path):
    pytest.importorskip("matplotlib")
    assert draw.main(["schedules", "--output", str(tmp_path / "schedules.png")]) == 0
    assert (tmp_path / "schedules.png").read_bytes().startswith(b"\x89PNG")
