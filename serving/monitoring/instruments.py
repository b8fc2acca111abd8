"""Counters, gauges and histograms in the text format that TensorFlow Serving writes for Prometheus.

Its names begin with a colon, its lines have no HELP and its values are written by C++, so that the writer of
`prometheus_client` gives other bytes; its parser reads these.
"""

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Counter", "Gauge", "Histogram", "Instrument", "exponential_limits"]

_MAX_SERIES = 1000  # clients choose model names: without an end they could fill the memory
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def exponential_limits(scale: float, growth: float, num_buckets: int) -> list[float]:
    """Upper ends of buckets, each `growth` times the one before; one more bucket takes what is larger."""
    return [scale * growth**index for index in range(num_buckets)]


class Instrument:
    """Series by the values of their labels. Beyond 1000 of them, further ones are counted under empty values.

    Args:
        name: as TensorFlow Serving exports it, `:tensorflow:serving:request_count`.
        labels: their names, in the order in which values are given.
    """

    kind = ""

    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self._labels = labels
        self._lock = threading.Lock()

    def lines(self) -> Iterator[str]:
        """The lines of the exposition, the type first."""
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._samples()

    def _samples(self) -> Iterator[str]:
        raise NotImplementedError

    def _pairs(self, values: Sequence[str]) -> list[str]:
        return [f'{label}="{_escaped(value)}"' for label, value in zip(self._labels, values, strict=True)]

    def _series(self, values: tuple[str, ...], known: int) -> tuple[str, ...]:
        return values if known < _MAX_SERIES else ("",) * len(self._labels)


class Counter(Instrument):
    """Counts up."""

    kind = "counter"

    def __init__(self, name: str, *labels: str) -> None:
        super().__init__(name, *labels)
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, *values: str, amount: int = 1) -> None:
        """Adds to the series of these label values."""
        with self._lock:
            if values not in self._values:
                values = self._series(values, len(self._values))
            self._values[values] = self._values.get(values, 0) + amount

    def _samples(self) -> Iterator[str]:
        with self._lock:
            series = sorted(self._values.items())
        for values, value in series:
            yield f"{self.name}{{{','.join(self._pairs(values))}}} {value}"


class Gauge(Counter):
    """Goes up and down."""

    kind = "gauge"

    def set(self, *values: str, value: int) -> None:
        """Sets the series of these label values."""
        with self._lock:
            if values not in self._values:
                values = self._series(values, len(self._values))
            self._values[values] = value


@dataclass
class _Distribution:
    counts: list[int] = field(default_factory=list)
    total: float = 0.0


class Histogram(Instrument):
    """Counts values by buckets.

    Args:
        name: as for every instrument.
        labels: as for every instrument.
        limits: upper ends of the buckets, ascending; one more takes what is larger.
    """

    kind = "histogram"

    def __init__(self, name: str, *labels: str, limits: Sequence[float]) -> None:
        super().__init__(name, *labels)
        self._limits = list(limits)
        self._values: dict[tuple[str, ...], _Distribution] = {}

    def observe(self, *values: str, value: float) -> None:
        """Counts one value in the series of these label values."""
        bucket = bisect_right(self._limits, value)  # as TensorFlow: what equals a limit belongs to the next bucket
        with self._lock:
            distribution = self._values.get(values)
            if distribution is None:
                values = self._series(values, len(self._values))
                distribution = self._values.setdefault(values, _Distribution([0] * (len(self._limits) + 1)))
            distribution.counts[bucket] += 1
            distribution.total += value

    def _samples(self) -> Iterator[str]:
        with self._lock:
            series = sorted((values, one.counts[:], one.total) for values, one in self._values.items())
        limits = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
        for values, counts, total in series:
            pairs = self._pairs(values)
            count = 0
            for limit, inside in zip(limits, counts, strict=True):
                count += inside
                bucket = ",".join([*pairs, f'le="{limit}"'])
                yield f"{self.name}_bucket{{{bucket}}} {count}"
            yield f"{self.name}_sum{{{','.join(pairs)}}} {total:.15g}"
            yield f"{self.name}_count{{{','.join(pairs)}}} {count}"


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)
