"""Dates in many languages: one date a text, held-out days, and the same examples everywhere."""

import datetime
import hashlib
import itertools
import sys
import time
from collections import Counter

import babel.dates
import pytest

from keras_seqattn.training.data import DateExample, DateSplits, date_splits
from keras_seqattn.training.data.dates import (
    LOCALES,
    SKELETONS,
    STANDARD_FORMATS,
    DateWriter,
    dates,
    with_ordinal_day,
    with_padded_day,
    without_commas,
    writer,
)

DAY = datetime.date(2021, 3, 5)


@pytest.fixture(scope="module")
def splits():
    return date_splits(train=5_000)


def test_every_text_has_one_date_across_all_languages_forms_and_habits():
    meaning = {}
    # A year whose digits are no day or month, and one whose halves are both days.
    days = [datetime.date(year, month, day) for year in (1987, 2012) for month in range(1, 13) for day in range(1, 29)]
    habits = list(itertools.product((as_it_is, with_padded_day, with_ordinal_day), (as_it_is, without_commas)))
    for name in LOCALES:
        for pattern in writer(name).patterns:
            for day_habit, comma_habit in habits:
                form = comma_habit(day_habit(pattern))
                for date in days:
                    text = writer(name).write(date, form)
                    for cased in (text, writer(name).lower(text), writer(name).upper(text)):
                        assert meaning.setdefault(cased, date) == date, (cased, name)
    assert len(meaning) > 100_000


def as_it_is(pattern):
    return pattern


def test_the_year_has_four_digits_and_the_day_is_there():
    for name in LOCALES:
        for pattern in writer(name).patterns:
            date = datetime.date(2047, 3, 19)
            plain = writer(name).write(date, pattern).translate({v: k for k, v in writer(name).digits.items()})
            assert "2047" in plain and "19" in plain


@pytest.mark.parametrize("name", LOCALES)
def test_forms_are_written_as_babel_writes_them(name):
    locale = babel.Locale.parse(name)
    skeletons = [skeleton for skeleton in SKELETONS if skeleton in locale.datetime_skeletons]
    for month in range(1, 13):
        date = datetime.date(2021, month, 2 * month)
        by_babel = {babel.dates.format_date(date, standard, locale) for standard in STANDARD_FORMATS}
        by_babel |= {babel.dates.format_skeleton(skeleton, date, locale=locale) for skeleton in skeletons}
        plain = {text.replace("\u202f", " ").replace("\xa0", " ") for text in by_babel}
        ours = {writer(name).write(date, pattern) for pattern in writer(name).patterns}
        assert len(ours) >= 2 and ours <= {text.translate(writer(name).digits) for text in plain}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ar_EG", "الجمعة، ٥ مارس ٢٠٢١"),
        ("de", "Freitag, 5. März 2021"),
        ("en", "Friday, March 5, 2021"),
        ("en_GB", "Friday, 5 March 2021"),
        ("es", "viernes, 5 de marzo de 2021"),
        ("fa", "جمعه ۵ مارس ۲۰۲۱"),
        ("hi", "शुक्रवार, 5 मार्च 2021"),
        ("ja", "2021年3月5日金曜日"),
        ("ru", "пятница, 5 марта 2021 г."),
        ("tr", "5 Mart 2021 Cuma"),
    ],
)
def test_the_full_form_of_a_language(name, text):
    assert writer(name).write(DAY, writer(name).patterns[0]) == text


@pytest.mark.parametrize(
    ("name", "text", "upper", "lower"),
    [
        ("tr", "5 Nisan Salı", "5 NİSAN SALI", "5 nisan salı"),
        ("el", "5 Μαΐου", "5 ΜΑΪΟΥ", "5 μαΐου"),
        ("de", "5. März", "5. MÄRZ", "5. märz"),
        ("ja", "3月5日", "3月5日", "3月5日"),
    ],
)
def test_capitals_and_small_letters_are_those_of_the_language(name, text, upper, lower):
    assert writer(name).upper(text) == upper
    assert writer(name).lower(text) == lower
    assert writer("tr").lower("NİSAN SALI") == "nisan salı"


def test_ordinals_are_those_of_the_language():
    pattern = with_ordinal_day(writer("en").patterns[1])
    written = [writer("en").write(datetime.date(2021, 3, day), pattern) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23)]
    suffixes = [text.split()[1].strip("0123456789,") for text in written]
    assert suffixes == ["st", "nd", "rd", "th", "th", "th", "th", "st", "nd", "rd"]
    assert writer("fr").ordinal_suffix(1) == "er" and writer("fr").ordinal_suffix(2) == ""
    assert writer("de").ordinal_suffix(1) == ""


def test_held_out_days_occur_in_no_other_part_in_any_language(splits):
    train, validation, test = ({iso for _, iso in part} for part in (splits.train, splits.validation, splits.test))
    assert not train & validation and not train & test and not validation & test


def test_parts_have_the_sizes_asked_for_with_a_locale_each(splits):
    assert isinstance(splits, DateSplits)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5_000, 500, 2_000)
    assert (len(splits.train_locales), len(splits.validation_locales), len(splits.test_locales)) == (5_000, 500, 2_000)


def test_every_part_covers_all_languages_evenly(splits):
    for locales in (splits.train_locales, splits.validation_locales, splits.test_locales):
        counts = Counter(locales)
        assert set(counts) == set(LOCALES) and max(counts.values()) - min(counts.values()) <= 1


def test_texts_are_short_and_targets_iso_dates_of_two_centuries(splits):
    assert max(len(text) for text, _ in splits.train) <= 40
    for _, iso in splits.train:
        assert 1900 <= datetime.date.fromisoformat(iso).year <= 2099 and len(iso) == 10
    years = {iso[:4] for _, iso in splits.train}
    assert len(years) == 200


def test_the_size_of_train_leaves_the_held_out_parts_alone(splits):
    other = date_splits(train=100)
    assert (other.validation, other.test) == (splits.validation, splits.test)
    assert other.train == splits.train[:100]


def test_the_same_seed_gives_the_same_and_another_seed_others(splits):
    assert date_splits(train=5_000).fingerprint == splits.fingerprint
    assert date_splits(seed=1, train=5_000).fingerprint != splits.fingerprint
    assert dates(3, 50) == dates(3, 50) != dates(4, 50)


def test_the_draws_are_the_same_on_every_machine_and_python():
    # Days only, without names: these do not change with Babel's release.
    isos = "".join(example.iso for example in dates(seed=0, count=1_000, locales=["ja"]))
    assert hashlib.sha256(isos.encode()).hexdigest()[:16] == "6e810ff99a728dd2"


def test_days_may_be_chosen():
    examples = dates(seed=1, count=40, locales=["pt", "en"], days=[DAY])
    assert {example.iso for example in examples} == {"2021-03-05"}
    assert [example.locale for example in examples[:3]] == ["pt", "en", "pt"]
    assert isinstance(examples[0], DateExample)


def test_every_form_and_habit_occurs():
    texts = {example.text for example in dates(seed=0, count=2_000, locales=["en"], days=[DAY])}
    assert {
        "Friday, March 5, 2021",
        "Mar 5, 2021",
        "March 5th, 2021",
        "March 05, 2021",
        "March 5 2021",
        "march 5, 2021",
        "MARCH 5, 2021",
        "fri mar 5 2021",
    } <= texts


def test_sixty_thousand_are_written_in_seconds():
    begin = time.perf_counter()
    date_splits(train=57_500)
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"locales": []}, "`locales` must name at least one"),
        ({"locales": ["xx"]}, "one that Babel knows.*'xx'"),
        ({"locales": ["not a locale"]}, "one that Babel knows"),
        ({"locales": ["my"]}, "digits of a locale.*my with mymr"),
        ({"train": -1}, "at least 0. Received: -1"),
        ({"test": 40_000}, "`validation` and `test` hold out one day an example"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        date_splits(**{"train": 10, "validation": 1, "test": 1, **arguments})


def test_no_days_are_refused():
    with pytest.raises(ValueError, match="`days` must hold at least one day"):
        dates(seed=0, count=1, days=[])
    assert dates(seed=0, count=0, days=[]) == []


def test_missing_babel_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_seqattn\[data\]'"):
        DateWriter("en")
