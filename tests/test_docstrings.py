"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import os
import pkgutil

import keras
import numpy as np
import pytest

import keras_seqattn

# training and serving are programs, whose examples are commands.
MODULES = [
    name
    for name in (module.name for module in pkgutil.walk_packages(keras_seqattn.__path__, "keras_seqattn."))
    if name.split(".")[1] not in ("training", "serving", "cli", "demo")
]
TENSORFLOW_ONLY = ("keras_seqattn.text", "keras_seqattn.inspection")


@pytest.mark.parametrize("name", ["keras_seqattn", *MODULES])
def test_the_examples_of_a_module_run(name):
    if name.startswith(TENSORFLOW_ONLY) and os.environ["KERAS_BACKEND"] != "tensorflow":
        pytest.skip(f"{name} is for TensorFlow")
    module = importlib.import_module(name)
    keras.utils.set_random_seed(0)
    scope = {**vars(module), "keras": keras, "ops": keras.ops, "np": np, "keras_seqattn": keras_seqattn}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, extraglobs=scope):
        runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
