"""Alignments drawn: which source tokens each answer token read."""

import unicodedata

SHADES = " ░▒▓█"


def alignment_text(source_tokens, answer_tokens, attention):
    """An alignment for a terminal: a row an answer token, a column a source token, shaded by attention.

    Args:
        source_tokens: S strings; empty ones at the end are padding and left out.
        answer_tokens: T strings, likewise.
        attention: (T, S) array of scores in [0, 1].
    Returns: str of T + 1 lines.
    Example:
        >>> print(alignment_text(["a", "b"], ["B", "A"], [[0.0, 1.0], [0.9, 0.1]]))
          a b
        B   █
        A █
    """
    source, answer = _without_padding(source_tokens), _without_padding(answer_tokens)
    widths = [max(1, display_width(token)) for token in source]
    margin = max((display_width(token) for token in answer), default=0)
    lines = [" ".join([" " * margin, *source])]
    for t, token in enumerate(answer):
        cells = []
        for s, width in enumerate(widths):
            shade = SHADES[min(len(SHADES) - 1, int(float(attention[t][s]) * len(SHADES)))]
            cells.append(shade + " " * (width - 1))
        lines.append(" ".join([token + " " * (margin - display_width(token)), *cells]).rstrip())
    return "\n".join(lines)


def alignment_figure(source_tokens, answer_tokens, attention, title=None):
    """An alignment as a matplotlib figure, the source's tokens on top and the answer's on the left.

    Tokens that no installed font can draw stand as their code points (`U+6708`).

    Args: as `alignment_text`; `title`: str above the picture.
    Returns: `matplotlib.figure.Figure`.
    Raises: ImportError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Install it with: pip install 'keras_seqattn[pictures]'."
        ) from error
    source, answer = _without_padding(source_tokens), _without_padding(answer_tokens)
    fonts = drawing_fonts()
    source_labels, answer_labels = ([drawable(token, fonts) for token in tokens] for tokens in (source, answer))
    figure = Figure(figsize=(1.6 + 0.27 * max(8, len(source)), 1.5 + 0.27 * max(4, len(answer))), layout="constrained")
    axes = figure.subplots()
    shown = [[float(attention[t][s]) for s in range(len(source))] for t in range(len(answer))]
    image = axes.imshow(shown or [[0.0]], cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    family = [font.name for font in fonts]
    rotation = 90 if max(map(len, source_labels), default=0) > 1 else 0
    axes.set_xticks(range(len(source)), source_labels, rotation=rotation, family=family)
    axes.set_yticks(range(len(answer)), answer_labels, family=family)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("source")
    axes.set_ylabel("answer")
    figure.colorbar(image, label="attention", shrink=0.9)
    if title:
        figure.suptitle(drawable(title, fonts), family=family)
    return figure


def display_width(text):
    """Columns that `text` takes in a terminal: two for wide East Asian characters, none for combining ones."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


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
    """DejaVu Sans, and those of the known families for other scripts that this machine has."""
    from matplotlib import font_manager

    installed = {font.name: font for font in font_manager.fontManager.ttflist}
    return [installed[name] for name in ("DejaVu Sans", *FALLBACK_FAMILIES) if name in installed]


def drawable(token, fonts):
    """`token`, with the code point in place of each character that none of the fonts has."""
    return "".join(c if any(ord(c) in _characters(font.fname) for font in fonts) else f"U+{ord(c):04X}" for c in token)


_CHARACTERS = {}


def _characters(path):
    if path not in _CHARACTERS:
        from matplotlib import font_manager

        _CHARACTERS[path] = frozenset(font_manager.get_font(path).get_charmap())
    return _CHARACTERS[path]
