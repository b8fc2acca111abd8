"""Alignments drawn: which source tokens each answer token read."""

import unicodedata

import numpy as np
from rich.cells import cell_len

SHADES = " ░▒▓█"
LEFT_TO_RIGHT_MARK = "\u200e"


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
    source, answer = _without_padding(source_tokens), _without_padding(answer_tokens)
    scores = np.clip(np.nan_to_num(_scores(attention, source, answer)), 0, 1)
    shades = np.minimum((scores * len(SHADES)).astype(int), len(SHADES) - 1)  # (T, S)
    widths = [max(1, cell_len(token)) for token in source]
    margin = max(map(cell_len, answer), default=0)
    header = [_padded(token, width) for token, width in zip(source, widths, strict=True)]
    lines = [" ".join([" " * margin, *header])]
    for token, row in zip(answer, shades, strict=True):
        cells = [_padded(SHADES[shade], width) for shade, width in zip(row, widths, strict=True)]
        lines.append(" ".join([_padded(token, margin), *cells]))
    return "\n".join(line.rstrip() for line in lines)


def alignment_figure(source_tokens, answer_tokens, attention, title=None):
    """An alignment as a matplotlib figure, the source's tokens on top and the answer's on the left.

    Tokens that no installed font can draw stand as their code points (`U+6708`).

    Args: as `alignment_text`; `title`: str above the picture, of one or more lines.
    Returns: `matplotlib.figure.Figure`.
    Raises: ImportError without matplotlib; ValueError when there are fewer scores than tokens.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Install it with: pip install 'keras_seqattn[pictures]'."
        ) from error
    source, answer = _without_padding(source_tokens), _without_padding(answer_tokens)
    scores, fonts = _scores(attention, source, answer), drawing_fonts()
    source_labels, answer_labels = ([drawable(token, fonts) for token in tokens] for tokens in (source, answer))
    figure = Figure(figsize=(1.6 + 0.27 * max(8, len(source)), 1.5 + 0.27 * max(4, len(answer))), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(scores if scores.size else np.zeros((1, 1)), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    style = {"family": list(fonts), "parse_math": False}  # a token with a dollar sign is no formula
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


def _padded(token, width):
    """`token` over `width` columns of a terminal. Words written from right to left get a mark between them, or a
    terminal that turns such text round would turn neighbours round together."""
    mark = LEFT_TO_RIGHT_MARK if any(unicodedata.bidirectional(c) in ("R", "AL") for c in token) else ""
    return token + mark + " " * (width - cell_len(token))


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


def _without_padding(tokens):
    tokens = list(tokens)
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens


FALLBACK_FAMILIES = (  # beside matplotlib's own DejaVu Sans, which draws Latin, Greek, Cyrillic, Arabic and Hebrew
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Noto Sans Devanagari",
    "Lohit Devanagari",
    "Arial Unicode MS",
)


def drawing_fonts():
    """Files by family: DejaVu Sans, and those of the known families for other scripts that this machine has."""
    from matplotlib import font_manager

    # A family has files for bold and oblique too, with fewer characters: `findfont` gives the regular one.
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [name for name in ("DejaVu Sans", *FALLBACK_FAMILIES) if name in installed]
    return {name: font_manager.findfont(name, fallback_to_default=False) for name in families}


def drawable(token, fonts):
    """`token`, with the code point in place of each character that none of the fonts has."""
    known = frozenset().union(*map(_characters, fonts.values()))
    return "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in token)


_CHARACTERS = {}


def _characters(path):
    if path not in _CHARACTERS:
        from matplotlib import font_manager

        _CHARACTERS[path] = frozenset(font_manager.get_font(path).get_charmap())
    return _CHARACTERS[path]
