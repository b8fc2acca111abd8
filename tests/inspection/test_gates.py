"""Pictures of gates: what stands where, in which order and scale, in matplotlib and in a terminal."""

import io
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.inspection import gates_figure, gates_text
from keras_seqattn.layers import ElmanCell, GRUCell, LSTMCell, Recurrent

T, U = 5, 7
TOKENS = list("a$▁bc")


@pytest.fixture
def trace(rng):
    return {
        "candidate": rng.uniform(-1, 1, (T, U)),
        "reset_gate": rng.uniform(size=(T, U)),
        "update_gate": rng.uniform(size=(T, U)),
    }


def drawn(figure):
    """Draws the figure, warnings as errors, and gives its pixels as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def heat_maps(figure):
    """By name, in the order of the figure."""
    return {axes.get_title(loc="left").split(":")[0]: axes for axes in figure.axes if axes.get_title(loc="left")}


def labels(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def test_each_gate_has_a_heat_map_with_tokens_across_and_units_down_the_most_open_on_top(trace):
    maps = heat_maps(gates_figure(trace, TOKENS))
    assert list(maps) == ["reset gate", "update gate", "candidate"]  # gates first
    for name, axes in maps.items():
        value = trace[name.replace(" ", "_")]
        picture = np.asarray(axes.images[0].get_array())
        assert picture.shape == (U, T)
        order = np.argsort(-value.mean(axis=0))
        np.testing.assert_allclose(picture, value.T[order])
        assert axes.get_ylabel() == f"{U} units"
        assert axes.get_ylim() == (U - 0.5, -0.5)  # the first row is the uppermost


def test_gates_are_drawn_from_0_to_1_and_values_with_a_sign_from_minus_1_to_1(trace):
    maps = heat_maps(gates_figure({**trace, "cell": 5 * trace["candidate"]}, TOKENS))
    scales = {name: axes.images[0].get_clim() for name, axes in maps.items()}
    assert scales == {"reset gate": (0, 1), "update gate": (0, 1), "candidate": (-1, 1), "cell": (-1, 1)}


def test_a_line_a_gate_shows_the_mean_opening_at_each_token(trace):
    figure = gates_figure(trace, TOKENS)
    axes = figure.axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert list(lines) == ["reset gate", "update gate"]
    for name, means in lines.items():
        np.testing.assert_allclose(means, trace[name.replace(" ", "_")].mean(axis=1))
    assert (axes.get_ylabel(), axes.get_ylim()) == ("mean opening", (0, 1))
    assert labels(axes) == labels(list(heat_maps(figure).values())[-1]) == TOKENS
    assert drawn(figure).startswith(b"\x89PNG")


def test_one_order_for_all_makes_a_row_the_same_unit_everywhere(trace):
    maps = heat_maps(gates_figure(trace, TOKENS, order_by="update_gate"))
    order = np.argsort(-trace["update_gate"].mean(axis=0))
    for name, axes in maps.items():
        np.testing.assert_allclose(axes.images[0].get_array(), trace[name.replace(" ", "_")].T[order])
    with pytest.raises(ValueError, match=r"`order_by` must name a part of the trace: candidate, .*'output'"):
        gates_figure(trace, TOKENS, order_by="output")


def test_padding_is_left_out_of_picture_and_text(trace):
    padded, cut = [*TOKENS[:3], "", ""], {name: value[:3] for name, value in trace.items()}
    for name, axes in heat_maps(gates_figure(trace, padded)).items():
        assert axes.images[0].get_array().shape == (U, 3), name
    assert gates_text(trace, padded) == gates_text(cut, TOKENS[:3])


@pytest.mark.parametrize("token", ["$x$", "\n", "월", "a long one", "שלום"])
def test_any_token_is_a_label_and_no_formula(token, rng):
    figure = gates_figure({"update_gate": rng.uniform(size=(2, U))}, [token, "a"], title=f"title {token}")
    assert drawn(figure).startswith(b"\x89PNG")
    assert not figure.axes[0].get_xticklabels()[0].get_parse_math()


def test_no_tokens_and_no_gates_are_drawn_all_the_same(rng):
    drawn(gates_figure({"update_gate": np.zeros((0, U)), "candidate": np.zeros((0, U))}, []))
    figure = gates_figure({"state": rng.normal(size=(T, U))}, TOKENS)
    assert list(heat_maps(figure)) == ["state"]
    assert figure.axes[0].get_title(loc="left") == "state"  # there is nothing that opens
    drawn(figure)
    assert gates_text({"update_gate": np.zeros((0, U))}, []).splitlines()[1].startswith("update_gate")


@pytest.mark.parametrize("cell", [ElmanCell, GRUCell, LSTMCell])
def test_the_trace_of_a_layer_is_drawn_as_it_comes(cell, rng):
    keras.utils.set_random_seed(0)
    layer = Recurrent(cell(U), return_sequences=True, return_trace=True)
    _, trace = layer(rng.normal(size=(1, T, 3)).astype("float32"))
    maps = heat_maps(gates_figure(trace, TOKENS))
    assert {name.replace(" ", "_") for name in maps} == set(trace)
    for name, axes in maps.items():
        value = ops.convert_to_numpy(trace[name.replace(" ", "_")])[0]
        np.testing.assert_allclose(np.sort(axes.images[0].get_array(), axis=0), np.sort(value.T, axis=0), rtol=1e-6)
    assert len(gates_text(trace, TOKENS).splitlines()) == 1 + len(trace)


def test_it_is_said_what_an_open_gate_does(rng):
    layer = Recurrent(GRUCell(U), return_sequences=True, return_trace=True)
    _, trace = layer(rng.normal(size=(1, T, 3)).astype("float32"))
    titles = {axes.get_title(loc="left") for axes in gates_figure(trace, TOKENS).axes}
    assert "update gate: open keeps the last state" in titles
    prefixed = gates_figure({"1/update_gate": trace["update_gate"]}, TOKENS)
    assert heat_maps(prefixed).keys() == {"1/update gate"}


def test_the_text_has_a_row_a_gate_whose_bars_go_from_its_smallest_to_its_largest_mean():
    trace = {"update_gate": [[0.1, 0.3], [0.9, 0.7], [0.5, 0.6]], "cell": [[-2.0, 2.0], [0.0, 0.0], [0.0, 1.0]]}
    assert gates_text(trace, ["a", "월", "c"]).splitlines() == [
        "            a 월 c",
        "update_gate ▁ █  ▅  0.20 to 0.80",
        "|cell|      █ ▁  ▃  0.00 to 2.00",
    ]


def test_gates_that_do_not_move_are_low_bars():
    assert gates_text({"update_gate": np.full((2, U), 0.5)}, ["a", "b"]).endswith("update_gate ▁ ▁  0.50 to 0.50")


@pytest.mark.parametrize("draw", [gates_figure, gates_text])
@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ({"update_gate": np.zeros((2, T, U))}, r"one sentence.*update_gate of shape \(2, 5, 7\) for 5 tokens"),
        ({"update_gate": np.zeros((T - 1, U))}, r"a step for each token.*\(4, 7\) for 5 tokens"),
        ({"update_gate": np.zeros(T)}, r"an axis of units"),
        ({}, r"at least one gate or inner value\. Received: \[\]"),
        ({"attention_scores": np.zeros((T, 3))}, r"at least one gate.*\['attention_scores'\]"),
    ],
    ids=["two sentences", "too few steps", "no units", "nothing", "attention alone"],
)
def test_what_is_no_trace_of_one_sentence_is_refused(draw, trace, message):
    with pytest.raises(ValueError, match=message):
        draw(trace, TOKENS)


def test_without_matplotlib_the_error_names_the_extra_and_the_text_is_drawn(monkeypatch, trace):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'keras_seqattn\[pictures\]'"):
        gates_figure(trace, TOKENS)
    assert gates_text(trace, TOKENS)
