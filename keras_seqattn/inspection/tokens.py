"""Tokens as labels: over the columns of a terminal, and in fonts that can draw them."""

import unicodedata

from rich.cells import cell_len

LEFT_TO_RIGHT_MARK = "\u200e"
FALLBACK_FAMILIES = (  # beside matplotlib's own DejaVu Sans, which draws Latin, Greek, Cyrillic, Arabic and Hebrew
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Noto Sans Devanagari",
    "Lohit Devanagari",
    "Arial Unicode MS",
)


def without_padding(tokens):
    """`tokens` without the empty ones at the end."""
    tokens = list(tokens)
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens


def in_columns(token, width):
    """`token` over `width` columns of a terminal. Words written from right to left get a mark between them, or a
    terminal that turns such text round would turn neighbours round together."""
    mark = LEFT_TO_RIGHT_MARK if any(unicodedata.bidirectional(c) in ("R", "AL") for c in token) else ""
    return token + mark + " " * (width - cell_len(token))


def import_figure():
    """matplotlib's class `Figure`, which opens no window, or an ImportError that names the extra."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Install it with: pip install 'keras_seqattn[pictures]'."
        ) from error
    return Figure


def drawing_fonts():
    """Files by family: DejaVu Sans, and those of the known families for other scripts that this machine has."""
    from matplotlib import font_manager

    # A family has files for bold and oblique too, with fewer characters: `findfont` gives the regular one.
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [name for name in ("DejaVu Sans", *FALLBACK_FAMILIES) if name in installed]
    return {name: font_manager.findfont(name, fallback_to_default=False) for name in families}


def label_style(fonts):
    """How matplotlib writes tokens: in these fonts, and a token with a dollar sign is no formula."""
    return {"family": list(fonts), "parse_math": False}


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
