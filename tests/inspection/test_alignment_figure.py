import io
import subprocess
import sys

import numpy as np
import pytest

from keras_seqattn.inspection import alignment_figure
from keras_seqattn.inspection import tokens as module


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def drawn(figure):
    """Draws the figure, warnings as errors, and gives its pixels as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def test_the_source_stands_on_top_and_the_answer_on_the_left(rng):
    scores = rng.uniform(size=(3, 5))
    figure = alignment_figure(["un", "deux", "trois", "", ""], ["one", "two", ""], scores, title="numbers")
    axes = figure.axes[0]
    assert labels(axes.xaxis) == ["un", "deux", "trois"]
    assert labels(axes.yaxis) == ["one", "two"]
    assert axes.xaxis.get_ticks_position() == "top"
    np.testing.assert_allclose(axes.images[0].get_array(), scores[:2, :3])
    assert axes.images[0].get_clim() == (0, 1)
    assert figure.get_suptitle() == "numbers"
    assert drawn(figure).startswith(b"\x89PNG")


def test_the_first_answer_token_is_the_uppermost_row():
    figure = alignment_figure(["a"], ["x", "y"], [[1.0], [0.0]])
    assert figure.axes[0].get_ylim() == (1.5, -0.5)


def test_right_to_left_and_accented_tokens_are_labels_as_they_are():
    tokens = ["שלום", "سلام", "e\u0301te\u0301", "мир", "ngày"]
    figure = alignment_figure(tokens, ["x"], np.ones((1, 5)))
    assert labels(figure.axes[0].xaxis) == tokens
    drawn(figure)


def test_characters_that_no_font_has_stand_as_code_points(monkeypatch):
    monkeypatch.setattr(module, "FALLBACK_FAMILIES", ())
    figure = alignment_figure(["2月", "\U0001f9ea"], ["月"], [[1.0, 0.0]], title="月 month")
    assert labels(figure.axes[0].xaxis) == ["2U+6708", "U+1F9EA"]
    assert labels(figure.axes[0].yaxis) == ["U+6708"]
    assert figure.get_suptitle() == "U+6708 month"
    drawn(figure)  # matplotlib would warn of a missing glyph


@pytest.mark.parametrize("token", ["$x$", "$$", "$\\frac$", "a_b^c", "\\n", "%", "\n", "\t"])
def test_no_token_is_taken_for_a_formula_or_for_space(token):
    figure = alignment_figure([token, "a"], [token], [[1.0, 0.0]], title=token)
    drawn(figure)
    label = figure.axes[0].get_xticklabels()[0]
    assert label.get_text() == (f"U+{ord(token):04X}" if token in "\n\t" else token)
    assert not label.get_parse_math()


def test_no_tokens_give_an_empty_picture():
    for tokens in (([], []), (["a"], []), ([], ["x"])):
        drawn(alignment_figure(*tokens, np.zeros((1, 1))))


def test_long_sequences_make_a_larger_picture():
    small, large = (alignment_figure(["a"] * n, ["b"] * n, np.eye(n)) for n in (7, 31))
    assert (large.get_size_inches() > 2 * small.get_size_inches()).all()


def test_fewer_scores_than_tokens_raise():
    with pytest.raises(ValueError, match=r"`attention` needs a row for each answer token.*Received: .*\(1, 2\)"):
        alignment_figure(["a", "b"], ["x"], [[0.1]])


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'keras_seqattn\[pictures\]'"):
        alignment_figure(["a"], ["x"], [[1.0]])


def test_text_needs_no_matplotlib_and_a_figure_opens_no_window():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from keras_seqattn.inspection.alignment import alignment_text\n"
        "assert alignment_text(['a'], ['x'], [[1.0]]).endswith('█')\n"
        "del sys.modules['matplotlib']\n"
        "from keras_seqattn.inspection.alignment import alignment_figure\n"
        "alignment_figure(['a'], ['x'], [[1.0]])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
