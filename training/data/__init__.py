"""What the recipes train on: one file a task."""

from .classified import ClassifiedTexts, load_classified, read_classified
from .dates import DateExample, DateSplits, date_splits
from .pairs import DataError, TranslationData, read_pairs, read_parallel
from .splits import Pair, Splits
from .texts import TextParts, load_text

__all__ = [
    "ClassifiedTexts",
    "DataError",
    "DateExample",
    "DateSplits",
    "Pair",
    "Splits",
    "TextParts",
    "TranslationData",
    "date_splits",
    "load_classified",
    "load_text",
    "read_classified",
    "read_pairs",
    "read_parallel",
]
