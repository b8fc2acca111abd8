"""Gates drawn: how far each unit's gates stood open at each token."""

import numpy as np
from keras import ops
from rich.cells import cell_len

from keras_seqattn.inspection.tokens import (
    drawable,
    drawing_fonts,
    import_figure,
    in_columns,
    label_style,
    without_padding,
)

BARS = "▁▂▃▄▅▆▇█"
OPEN = {  # what it means that a gate of our cells stands open
    "forget_gate": "open keeps the cell",
    "input_gate": "open lets the candidate in",
    "output_gate": "open shows the cell",
    "reset_gate": "open reads the last state",
    "update_gate": "open keeps the last state",
}


def gates_text(trace, tokens):
    """The gates of one sentence for a terminal: a row a gate, a column a token, a bar for the mean over the units.

    A row's lowest and highest bar are its smallest and largest mean, which stand behind it. Of a candidate, a cell or a
    state, whose values have a sign, the bars show the mean of the absolute values.

    Args:
        trace: dict of arrays (T, U) or (1, T, U) by name, as `Recurrent(return_trace=True)` gives it. Names that end in
            `_gate` lie in [0, 1]. Attention scores, which have no units, are `alignment_text`'s.
        tokens: T strings; empty ones at the end are padding and left out.
    Returns: str, a line for the tokens and one for each name.
    Raises: ValueError when the trace has several sentences or fewer steps than tokens, or nothing with units.
    Example:
        >>> print(gates_text({"update_gate": [[0.1, 0.3], [0.9, 0.7], [0.5, 0.6]]}, ["a", "b", "c"]))
                    a b c
        update_gate ▁ █ ▅  0.20 to 0.80
    """
    tokens = without_padding(tokens)
    values = _by_name(trace, tokens)
    widths = [max(1, cell_len(token)) for token in tokens]
    labels = {name: name if is_gate(name) else f"|{name}|" for name in values}
    margin = max(map(len, labels.values()))
    header = [in_columns(token, width) for token, width in zip(tokens, widths, strict=True)]
    lines = [" ".join([" " * margin, *header])]
    for name, value in values.items():
        means = (value if is_gate(name) else np.abs(value)).mean(axis=1)  # (T,)
        low, high = (means.min(), means.max()) if len(means) else (0.0, 0.0)
        heights = np.rint((means - low) / max(high - low, 1e-12) * (len(BARS) - 1)).astype(int)
        bars = [in_columns(BARS[height], width) for height, width in zip(heights, widths, strict=True)]
        lines.append(" ".join([labels[name].ljust(margin), *bars, f" {low:.2f} to {high:.2f}"]))
    return "\n".join(line.rstrip() for line in lines)


def gates_figure(trace, tokens, title=None, order_by=None):
    """The gates of one sentence as a matplotlib figure: a heat map a gate, tokens across and units down.

    Above them a line a gate: its mean over the units, from closed (0) to open (1). Candidates, cells and states have a
    scale from -1 to 1. In each heat map the unit with the largest mean stands on top.

    Args: as `gates_text`;
        title: str above the picture.
        order_by: name whose means order the units of all heat maps of that many units, so that a row is the same unit
            everywhere; None orders each heat map by itself.
    Returns: `matplotlib.figure.Figure`.
    Raises: as `gates_text`; ImportError without matplotlib; ValueError when `order_by` is not in the trace.
    """
    figure_class = import_figure()
    tokens = without_padding(tokens)
    values = _by_name(trace, tokens)
    if order_by is not None and order_by not in values:
        raise ValueError(f"`order_by` must name a part of the trace: {', '.join(values)}. Received: {order_by!r}.")
    gates = [name for name in values if is_gate(name)]
    names = [*gates, *(name for name in values if not is_gate(name))]
    # A hundred units an inch: no row is lost in a picture of a hundred pixels an inch, up to 400 of them.
    heights = [1.5] * bool(gates) + [min(4.5, max(2.0, 0.5 + values[name].shape[1] / 100)) for name in names]
    figure = figure_class(figsize=(3.2 + 0.2 * max(16, len(tokens)), 1.4 + sum(heights)), layout="constrained")
    every = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    maps = dict(zip(names, every[bool(gates) :], strict=True))
    if gates:
        _draw_means(every[0], {name: values[name].mean(axis=1) for name in gates})
    images = {name: _draw_units(maps[name], name, values[name], values.get(order_by)) for name in names}
    for some, label in ((gates, "closed 0, open 1"), ([name for name in names if name not in gates], "value")):
        if some:
            extend = "neither" if some is gates else "both"
            bar = figure.colorbar(images[some[0]], ax=[maps[name] for name in some], label=label, extend=extend)
            bar.ax.tick_params(length=0)
    _label_tokens(every, tokens)
    if title:
        fonts = drawing_fonts()
        figure.suptitle("\n".join(drawable(line, fonts) for line in title.splitlines()), **label_style(fonts))
    return figure


def is_gate(name):
    """Whether what has this name in a trace lies between 0, closed, and 1, open."""
    return name.endswith("_gate")


def _draw_means(axes, means):
    """A line a gate: its mean (T,) over the units."""
    for name, mean in means.items():
        axes.plot(range(len(mean)), mean, marker=".", linewidth=1.2, label=_words(name))
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("mean opening")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", ncols=len(means), fontsize="small")


def _draw_units(axes, name, value, order):
    """A heat map (T, U), tokens across and units down; ordered by the means of `order`, or its own."""
    steps, units = value.shape
    order = value if order is None or order.shape[1] != units else order
    rows = np.argsort(-order.mean(axis=0), kind="stable") if steps else np.arange(units)
    scale = {"cmap": "Blues", "vmin": 0.0, "vmax": 1.0} if is_gate(name) else {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
    picture = value.T[rows] if steps else np.zeros((units, 1))  # (U, T)
    image = axes.imshow(picture, aspect="auto", interpolation="nearest", **scale)
    meaning = OPEN.get(name.split("/")[-1])
    axes.set_title(f"{_words(name)}: {meaning}" if meaning else _words(name), loc="left", fontsize="medium")
    axes.set_ylabel(f"{units} units")
    axes.set_yticks([])
    return image


def _label_tokens(every, tokens):
    """The tokens over the uppermost picture and under the lowest, the same columns in all."""
    fonts = drawing_fonts()
    labels = [drawable(token, fonts) for token in tokens]
    for axes in every:
        axes.set_xlim(-0.5, max(1, len(tokens)) - 0.5)
        axes.set_xticks([])
        axes.tick_params(length=0)
    for axes in {every[0], every[-1]}:
        axes.set_xticks(range(len(tokens)), labels, **label_style(fonts))
        for label in axes.get_xticklabels():
            label.set_rotation(90 if len(label.get_text()) > 1 else 0)
    if len(every) > 1:
        every[0].xaxis.tick_top()
        every[0].tick_params(length=0)


def _words(name):
    return name.replace("_", " ")


def _by_name(trace, tokens):
    """The values (T, U) of these tokens by name, without those of padding."""
    values = {}
    for name, value in trace.items():
        if name.split("/")[-1].startswith("attention_scores"):
            continue  # a column a source step, not a unit
        value = np.asarray(ops.convert_to_numpy(value), dtype="float64")
        if value.ndim == 3 and value.shape[0] == 1:
            value = value[0]
        if value.ndim != 2 or len(value) < len(tokens):
            raise ValueError(
                "`trace` must be that of one sentence, with a step for each token and an axis of units. "
                f"Received: {name} of shape {value.shape} for {len(tokens)} tokens."
            )
        values[name] = value[: len(tokens)]
    if not values:
        raise ValueError(f"`trace` must hold at least one gate or inner value. Received: {sorted(trace)}.")
    return values
