"""TensorBoard's event files, read by TensorBoard's own reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Events:
    """Lists of (step, value) by tag: floats, texts, PNG files."""

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    texts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    images: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)


def read_events(folder: Path) -> Events:
    """What the event files in `folder` hold; its subfolders are runs of their own."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    found = Events()
    for tag in accumulator.Tags()["tensors"]:
        plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
        values: list[tuple[int, Any]] = [
            (event.step, make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)
        ]
        if plugin == "scalars":
            found.scalars[tag] = [(step, float(value)) for step, value in values]
        elif plugin == "text":
            found.texts[tag] = [(step, value.item().decode()) for step, value in values]
        elif plugin == "images":
            # Width and height stand before the pictures.
            found.images[tag] = [(step, png) for step, value in values for png in value[2:]]
    return found
