"""What the recipes train on: one file a task."""

from .dates import DateExample, DateSplits, date_splits
from .pairs import DataError, TranslationData, read_pairs, read_parallel
from .splits import Pair, Splits

__all__ = [
    "DataError",
    "DateExample",
    "DateSplits",
    "Pair",
    "Splits",
    "TranslationData",
    "date_splits",
    "read_pairs",
    "read_parallel",
]
