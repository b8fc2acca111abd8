"""Times several ways of doing the same, taking turns in one run, so that a drifting machine slows all of them alike."""

import statistics
import time


def interleaved(ways, turns=5):
    """Median seconds of each way.

    Args:
        ways: dict from a name to a function without arguments; each is called once before the clock runs.
        turns: how often each is timed.
    Returns: dict from name to median seconds.
    """
    for way in ways.values():
        way()
    seconds = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(title, seconds, unit=1e3, suffix="ms"):
    """Prints medians, and each one's ratio to the first."""
    print(f"\n{title}")
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"  {name:44} {value * unit:10.1f} {suffix}   {value / first:6.2f}")
