"""Dates as people write them, in many languages, to ISO 8601: a task that needs no data.

    Viernes, 5 de marzo de 2021        ->  2021-03-05
    ٥ مارس ٢٠٢١                        ->  2021-03-05
    2021年3月5日(金)                    ->  2021-03-05

Patterns and names come from Babel's copy of the Unicode CLDR. Kept are the forms that say which number is the month:
by its name, or by standing between year and day. So each text has one date, whatever its language. The same seed gives
the same dates with every Python; another release of Babel may bring other spellings.
"""

from __future__ import annotations

import datetime
import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .splits import Pair, Splits

if TYPE_CHECKING:
    from babel import Locale

Item = TypeVar("Item")

LOCALES = (
    "ar_EG",  # Arabic-Indic digits
    "cs",
    "de",
    "el",
    "en",  # month before day
    "en_GB",
    "es",
    "fa",  # Persian digits; the names of Gregorian months
    "fr",
    "he",
    "hi",
    "it",
    "ja",  # year first
    "ko",
    "nl",
    "pl",
    "pt",
    "ru",
    "sv",
    "tr",
    "uk",
    "zh",
)
FIRST_DAY, LAST_DAY = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
ALL_DAYS = tuple(datetime.date.fromordinal(day) for day in range(FIRST_DAY.toordinal(), LAST_DAY.toordinal() + 1))

STANDARD_FORMATS = ("full", "long", "medium", "short")
SKELETONS = ("yMMMd", "yMMMEd", "yMMMMd", "yMMMMEd", "yMMMMEEEEd", "yMd")
ZERO_DIGITS = {"arab": "٠", "arabext": "۰", "beng": "০", "deva": "०", "latn": "0"}
# CLDR glues "2021 г." by a narrow no-break space; nobody's keyboard has it.
PLAIN_SPACES = {ord("\u00a0"): " ", ord("\u202f"): " "}
# str.upper knows one language only: Turkish has two letters i, and Greek capitals carry no accent.
TURKISH_UPPER, TURKISH_LOWER = str.maketrans("iı", "İI"), str.maketrans("İI", "iı")


class DateExample(NamedTuple):
    """A date in words, in ISO 8601, and whose words they are."""

    text: str
    iso: str
    locale: str


class Field(NamedTuple):
    """One field of a CLDR pattern: `MMMM` is ("M", 4). Text between the fields is the symbol, with width 0."""

    symbol: str
    width: int


Pattern = tuple[Field, ...]
ORDINAL_DAY = Field("d", -1)  # not one of CLDR's, whose patterns have no such field


@dataclass(frozen=True)
class DateSplits(Splits):
    """`Splits` of dates, with the locale of each pair beside it."""

    train_locales: list[str]
    validation_locales: list[str]
    test_locales: list[str]


class DateWriter:
    """Writes a date in every form that a locale has for it.

    Args:
        name: a Babel locale such as "pt" or "en_GB".
    Raises: ImportError without Babel; ValueError for a locale that Babel does not know, or whose digits we do not.
    """

    def __init__(self, name: str) -> None:
        locale = load_locale(name)
        if locale.default_numbering_system not in ZERO_DIGITS:
            raise ValueError(
                f"The digits of a locale must be among {', '.join(ZERO_DIGITS)}. "
                f"Received: {name} with {locale.default_numbering_system}."
            )
        self.name = name
        self.patterns = read_patterns(locale)
        zero = ord(ZERO_DIGITS[locale.default_numbering_system])
        self.digits = {ord("0") + digit: zero + digit for digit in range(10)}
        self.names: dict[tuple[str, int], Mapping[int, str]] = {  # of months (from 1) and of weekdays (from Monday = 0)
            ("M", 3): locale.months["format"]["abbreviated"],
            ("M", 4): locale.months["format"]["wide"],
            ("L", 3): locale.months["stand-alone"]["abbreviated"],
            ("L", 4): locale.months["stand-alone"]["wide"],
            ("E", 1): locale.days["format"]["abbreviated"],
            ("E", 2): locale.days["format"]["abbreviated"],
            ("E", 3): locale.days["format"]["abbreviated"],
            ("E", 4): locale.days["format"]["wide"],
            ("c", 3): locale.days["stand-alone"]["abbreviated"],
            ("c", 4): locale.days["stand-alone"]["wide"],
        }

    def write(self, date: datetime.date, pattern: Pattern) -> str:
        """The date as CLDR's pattern says, in the locale's digits; narrow and no-break spaces become plain ones."""
        return "".join(self._write_field(date, field) for field in pattern).translate(PLAIN_SPACES)

    def ordinal_suffix(self, day: int) -> str:
        """What follows the number when the day is counted: 1st, 22nd, in French only 1er; elsewhere nothing."""
        if self.name.startswith("en"):
            return "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
        return "er" if self.name == "fr" and day == 1 else ""

    def upper(self, text: str) -> str:
        """`text` in capitals, as they are written in the locale's language."""
        if self.name == "tr":
            return text.translate(TURKISH_UPPER).upper()
        if self.name == "el":
            text = "".join(char for char in unicodedata.normalize("NFD", text) if char != "\u0301")
        return unicodedata.normalize("NFC", text.upper())

    def lower(self, text: str) -> str:
        """`text` in small letters, as they are written in the locale's language."""
        return (text.translate(TURKISH_LOWER) if self.name == "tr" else text).lower()

    def _write_field(self, date: datetime.date, field: Field) -> str:
        symbol, width = field
        if width == 0:
            return symbol
        if field == ORDINAL_DAY:
            return f"{date.day}{self.ordinal_suffix(date.day)}"
        if symbol == "y":
            return str(date.year).translate(self.digits)
        if symbol == "d" or (symbol in "ML" and width < 3):
            number = date.day if symbol == "d" else date.month
            return f"{number:0{width}d}".translate(self.digits)
        return self.names[field][date.month if symbol in "ML" else date.weekday()]


def load_locale(name: str) -> Locale:
    try:
        import babel
    except ImportError as error:
        raise ImportError(
            "The dates are written with Babel's patterns. Install it with: pip install 'keras_seqattn[data]'."
        ) from error
    try:
        return babel.Locale.parse(name)
    except (babel.UnknownLocaleError, ValueError) as error:
        raise ValueError(
            f"A locale must be one that Babel knows, such as 'pt' or 'en_GB'. Received: {name!r}."
        ) from error


def read_patterns(locale: Locale) -> tuple[Pattern, ...]:
    """The locale's ways to write a date, each once, as far as they leave no doubt which number is what."""
    from babel.dates import tokenize_pattern

    texts = [locale.date_formats[name].pattern for name in STANDARD_FORMATS]
    texts += [locale.datetime_skeletons[name].pattern for name in SKELETONS if name in locale.datetime_skeletons]
    patterns: dict[Pattern, None] = {}  # a set that keeps its order
    for text in texts:
        pattern = tuple(
            Field(token, 0) if isinstance(token, str) else Field(*token) for _, token in tokenize_pattern(text)
        )
        if is_clear(pattern):
            patterns[pattern] = None
    return tuple(patterns)


def is_clear(pattern: Pattern) -> bool:
    """Whether the year has all its digits, and the month has a name or stands between year and day."""
    fields = [field for field in pattern if field.width and field.symbol not in "Ec"]
    if sorted(symbol.replace("L", "M") for symbol, _ in fields) != ["M", "d", "y"]:
        return False  # an era, a quarter, or no whole date
    if any(symbol == "y" and width == 2 for symbol, width in fields):
        return False
    has_named_month = any(symbol in "ML" and width in (3, 4) for symbol, width in fields)
    return has_named_month or [symbol for symbol, _ in fields] == ["y", "M", "d"]


def with_padded_day(pattern: Pattern) -> Pattern:
    """05 March 2021."""
    return tuple(Field("d", 2) if field.symbol == "d" and field.width else field for field in pattern)


def with_ordinal_day(pattern: Pattern) -> Pattern:
    """March 5th, 2021."""
    return tuple(ORDINAL_DAY if field == ("d", 1) else field for field in pattern)


def without_commas(pattern: Pattern) -> Pattern:
    """Friday March 5 2021."""
    return tuple(
        Field(field.symbol.replace(",", "").replace("،", ""), 0) if field.width == 0 else field for field in pattern
    )


# How people depart from the pattern, and how often.
PADDED_SHARE, ORDINAL_SHARE, COMMALESS_SHARE = 0.1, 0.2, 0.1
LOWER_SHARE, UPPER_SHARE = 0.15, 0.1


@cache
def writer(name: str) -> DateWriter:
    """The one `DateWriter` of a locale: reading the names and patterns costs far more than writing a date."""
    return DateWriter(name)


def dates(
    seed: int, count: int, locales: Sequence[str] = LOCALES, days: Sequence[datetime.date] | None = None
) -> list[DateExample]:
    """`count` dates in words, the same for the same seed.

    Args:
        seed: int.
        count: how many, at least 0.
        locales: Babel locales, taken in turn: each has as many examples as the others, or one more.
        days: the days to draw from; None for all of 1900 to 2099.
    Raises: ImportError without Babel; ValueError for a count below 0, no locale or an unknown one, or no day.
    Example:
        >>> dates(seed=0, count=1, locales=["pt"])[0]
        DateExample(text='seg., 19 de nov. de 2068', iso='2068-11-19', locale='pt')
    """
    return draw(random.Random(seed), count, locales, ALL_DAYS if days is None else days)


def date_splits(
    seed: int = 0, train: int = 40_000, validation: int = 500, test: int = 2_000, locales: Sequence[str] = LOCALES
) -> DateSplits:
    """The task: no day of `validation` or `test` occurs in another part, in any language.

    As many days are held out as `validation` and `test` have examples; the size of `train` changes neither of them.

    Args:
        seed: int.
        train, validation, test: how many examples, at least 0; `validation` and `test` together at most half of the
            73,049 days.
        locales: Babel locales, evenly represented in each part.
    Raises: ImportError without Babel; ValueError for a size out of range, or no locale or an unknown one.
    """
    if validation + test > len(ALL_DAYS) // 2:
        raise ValueError(
            f"`validation` and `test` hold out one day an example, at most {len(ALL_DAYS) // 2} in all. "
            f"Received: {validation=}, {test=}."
        )
    rng = random.Random(seed)
    days = shuffled(rng, ALL_DAYS)
    tests = draw(rng, test, locales, days[:test])
    validations = draw(rng, validation, locales, days[test : test + validation])
    trains = draw(rng, train, locales, days[test + validation :])
    return DateSplits(
        train=as_pairs(trains),
        validation=as_pairs(validations),
        test=as_pairs(tests),
        train_locales=[example.locale for example in trains],
        validation_locales=[example.locale for example in validations],
        test_locales=[example.locale for example in tests],
    )


def as_pairs(examples: Sequence[DateExample]) -> list[Pair]:
    return [(example.text, example.iso) for example in examples]


def draw(rng: random.Random, count: int, locales: Sequence[str], days: Sequence[datetime.date]) -> list[DateExample]:
    if count < 0:
        raise ValueError(f"The number of dates must be at least 0. Received: {count}.")
    if not locales:
        raise ValueError("`locales` must name at least one locale. Received none.")
    if count and not days:
        raise ValueError("`days` must hold at least one day. Received none.")
    writers = [writer(name) for name in locales]
    return [draw_one(rng, writers[index % len(writers)], days) for index in range(count)]


def draw_one(rng: random.Random, writer: DateWriter, days: Sequence[datetime.date]) -> DateExample:
    date, pattern = pick(rng, days), pick(rng, writer.patterns)
    dice = rng.random()
    if dice < PADDED_SHARE:
        pattern = with_padded_day(pattern)
    elif dice < PADDED_SHARE + ORDINAL_SHARE and writer.ordinal_suffix(date.day):
        pattern = with_ordinal_day(pattern)
    if rng.random() < COMMALESS_SHARE:
        pattern = without_commas(pattern)
    text = writer.write(date, pattern)
    dice = rng.random()
    if dice < LOWER_SHARE:
        text = writer.lower(text)
    elif dice < LOWER_SHARE + UPPER_SHARE:
        text = writer.upper(text)
    return DateExample(text, date.isoformat(), writer.name)


# Only `random` keeps its sequence from one Python to the next; `choice` and `shuffle` promise nothing.
def pick(rng: random.Random, items: Sequence[Item]) -> Item:
    return items[int(rng.random() * len(items))]


def shuffled(rng: random.Random, items: Sequence[Item]) -> list[Item]:
    result = list(items)
    for last in range(len(result) - 1, 0, -1):  # Fisher and Yates
        other = int(rng.random() * (last + 1))
        result[last], result[other] = result[other], result[last]
    return result
