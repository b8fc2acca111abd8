"""Windows of a long series for truncated backpropagation through time: each batch goes on where the last one ended.

A series of N steps becomes B rows, one after the other in the series and side by side in a batch; each row is cut into
windows of W steps. With B = 2 and W = 3, a series 0 1 2 ... 11 gives two batches, read from left to right:

    row 0    0 1 2 | 3 4 5
    row 1    6 7 8 | 9 10 11

Row b of a batch begins where row b of the batch before ended, so a layer that is `stateful` reads each row as one long
sequence. Its state enters the next window as a number, without a gradient: that is the truncation. What is learned
reaches back W steps at most; what is remembered may be older.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Windows:
    """A series and its targets, cut into batches of windows.

    Attributes:
        inputs: (windows, B, W, ...).
        targets: (windows, B, W, ...).
        weights: (windows, B, W) float32, 1 for each step of the series and 0 for what fills up the last windows.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    @property
    def steps(self) -> int:
        """Batches in one pass."""
        return len(self.weights)

    def dataset(self, epochs: int = 1) -> tf.data.Dataset:
        """(inputs, targets, weights) for `model.fit`, of static shape (B, W, ...), in the order of the series.

        At the beginning of each pass the states must be zero again: `callbacks.ResetStates` sees to it.
        """
        import tensorflow as tf

        whole = tf.data.Dataset.from_tensor_slices((self.inputs, self.targets, self.weights))
        return whole.repeat(epochs).prefetch(tf.data.AUTOTUNE)


def cut_windows(series: Any, batch_size: int, window: int, targets: Any = None) -> Windows:
    """Cuts a series into consecutive windows; every step of it counts exactly once.

    Args:
        series: (N, ...) array: ids (N,) or features (N, D).
        batch_size: int, rows B, that is how many places of the series are read side by side. Their lengths differ by
            one step at most.
        window: int, steps W through which gradients flow back; the last window of a row is filled up with zeros.
        targets: (N, ...) array, what step n is to predict. None takes the next step of the series: then N - 1 steps
            are read, and the last one is a target only.
    Raises: ValueError when a number is below 1, the targets are not as long as the series, or the series does not fill
        a window in each row.
    """
    series = np.asarray(series)
    for name, value in (("batch_size", batch_size), ("window", window)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}.")
    if series.ndim < 1:
        raise ValueError("`series` must have an axis of time. Received: a single number.")
    if targets is None:
        series, targets = series[:-1], series[1:]
    targets = np.asarray(targets)
    if targets.shape[:1] != series.shape[:1]:
        raise ValueError(
            "Step n of the series belongs to step n of the targets, so both must be as long. "
            f"Received: series.shape={series.shape}, targets.shape={targets.shape}."
        )
    if len(series) < batch_size * window:
        raise ValueError(
            f"A series must fill a window in each row, {batch_size * window} steps with their targets: take a smaller "
            f"`window` or `batch_size`. Received: {len(series)} steps, {batch_size=}, {window=}."
        )
    rows = np.array_split(np.arange(len(series)), batch_size)
    steps = -(-len(rows[0]) // window)  # the first row is as long as any

    def cut(values: np.ndarray) -> np.ndarray:
        filled = np.zeros((batch_size, steps * window, *values.shape[1:]), values.dtype)
        for row, places in enumerate(rows):
            filled[row, : len(places)] = values[places]
        windows = filled.reshape(batch_size, steps, window, *values.shape[1:])
        return np.ascontiguousarray(np.moveaxis(windows, 1, 0))  # (windows, B, W, ...)

    return Windows(cut(series), cut(targets), cut(np.ones(len(series), "float32")))
