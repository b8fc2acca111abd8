"""Alignments drawn: which source tokens each answer token read."""

import numpy as np
from rich.cells import cell_len

from keras_seqattn.inspection.tokens import (
    drawable,
    drawing_fonts,
    import_figure,
    in_columns,
    label_style,
    without_padding,
)

SHADES = " ░▒▓█"


def alignment_text(source_tokens, answer_tokens, attention):
    """An alignment for a terminal: a row an answer token, a column a source token, shaded by attention.

    Args:
        source_tokens: S strings; empty ones at the end are padding and left out.
        answer_tokens: T strings, likewise.
        attention: (T, S) array of scores in [0, 1].
    Returns: str of T + 1 lines.
    Raises: ValueError when there are fewer scores than tokens.
    Example:
        >>> print(alignment_text(["a", "b"], ["B", "A"], [[0.0, 1.0], [0.9, 0.1]]))
          a b
        B   █
        A █
    """
    source, answer = without_padding(source_tokens), without_padding(answer_tokens)
    scores = np.clip(np.nan_to_num(_scores(attention, source, answer)), 0, 1)
    shades = np.minimum((scores * len(SHADES)).astype(int), len(SHADES) - 1)  # (T, S)
    widths = [max(1, cell_len(token)) for token in source]
    margin = max(map(cell_len, answer), default=0)
    header = [in_columns(token, width) for token, width in zip(source, widths, strict=True)]
    lines = [" ".join([" " * margin, *header])]
    for token, row in zip(answer, shades, strict=True):
        cells = [in_columns(SHADES[shade], width) for shade, width in zip(row, widths, strict=True)]
        lines.append(" ".join([in_columns(token, margin), *cells]))
    return "\n".join(line.rstrip() for line in lines)


def alignment_figure(source_tokens, answer_tokens, attention, title=None):
    """An alignment as a matplotlib figure, the source's tokens on top and the answer's on the left.

    Tokens that no installed font can draw stand as their code points (`U+6708`).

    Args: as `alignment_text`; `title`: str above the picture, of one or more lines.
    Returns: `matplotlib.figure.Figure`.
    Raises: ImportError without matplotlib; ValueError when there are fewer scores than tokens.
    """
    figure_class = import_figure()
    source, answer = without_padding(source_tokens), without_padding(answer_tokens)
    scores, fonts = _scores(attention, source, answer), drawing_fonts()
    source_labels, answer_labels = ([drawable(token, fonts) for token in tokens] for tokens in (source, answer))
    figure = figure_class(
        figsize=(1.6 + 0.27 * max(8, len(source)), 1.5 + 0.27 * max(4, len(answer))), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(scores if scores.size else np.zeros((1, 1)), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    style = label_style(fonts)
    rotation = 90 if max(map(len, source_labels), default=0) > 1 else 0
    axes.set_xticks(range(len(source)), source_labels, rotation=rotation, **style)
    axes.set_yticks(range(len(answer)), answer_labels, **style)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("source")
    axes.set_ylabel("answer")
    figure.colorbar(image, label="attention", shrink=0.9)
    if title:
        figure.suptitle("\n".join(drawable(line, fonts) for line in title.splitlines()), **style)
    return figure


def _scores(attention, source, answer):
    """The scores (T, S) of these tokens, without those of padding."""
    shape = (len(answer), len(source))
    if 0 in shape:
        return np.zeros(shape)
    scores = np.asarray(attention, dtype="float64")
    if scores.ndim != 2 or scores.shape[0] < shape[0] or scores.shape[1] < shape[1]:
        raise ValueError(
            "`attention` needs a row for each answer token and a column for each source token. "
            f"Received: attention of shape {scores.shape} for (T, S) = {shape}."
        )
    return scores[: shape[0], : shape[1]]
