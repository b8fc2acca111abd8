"""Runs all benchmarks, one after the other."""

import importlib
import pkgutil

import benchmarks

for module in pkgutil.iter_modules(benchmarks.__path__):
    if module.name not in ("__main__", "timing"):
        importlib.import_module(f"benchmarks.{module.name}").main()
