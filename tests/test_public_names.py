"""The names that users import: all there, all written down, all explained."""

import importlib
import inspect
import pkgutil
import re
import types

import keras
import pytest

import keras_seqattn
from keras_seqattn import layers

# serving and training are programs; what needs an optional package to be imported is looked at where that is installed.
PACKAGES = [
    keras_seqattn,
    *(
        importlib.import_module(module.name)
        for module in pkgutil.iter_modules(keras_seqattn.__path__, "keras_seqattn.")
        if module.ispkg and module.name.rpartition(".")[2] not in ("serving", "training")
    ),
]
NAMED = [package for package in PACKAGES if hasattr(package, "__all__")]
PUBLIC = [
    (package.__name__, name, getattr(package, name))
    for package in NAMED
    for name in package.__all__
    if not isinstance(getattr(package, name), types.ModuleType)
]
LAYERS = [one for one in (getattr(layers, name) for name in layers.__all__) if issubclass(one, keras.layers.Layer)]


KERAS_EXPLAINS = ("build", "call", "get_config", "compute_mask", "compute_output_shape", "compute_output_spec")


def names(one):
    return getattr(one, "__name__", str(one))


def test_every_package_writes_down_its_public_names():
    assert [package.__name__ for package in PACKAGES if package not in NAMED] == []


@pytest.mark.parametrize("package", NAMED, ids=names)
def test_the_names_written_down_are_sorted_and_all_that_is_there(package):
    assert package.__all__ == sorted(package.__all__)
    assert len(set(package.__all__)) == len(package.__all__)
    missing = [name for name in package.__all__ if not hasattr(package, name)]
    assert not missing
    there = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert there <= set(package.__all__)


@pytest.mark.parametrize(("package", "name", "value"), PUBLIC, ids=[f"{package}.{name}" for package, name, _ in PUBLIC])
def test_every_public_name_is_explained(package, name, value):
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return
    assert inspect.getdoc(value), f"{package}.{name} has no docstring"
    if inspect.isclass(value):
        undocumented = [
            method
            for method, function in vars(value).items()
            if inspect.isfunction(function)
            and not method.startswith("_")
            and not inspect.getdoc(getattr(value, method))  # inherited words count
            and method not in KERAS_EXPLAINS
        ]
        assert not undocumented


@pytest.mark.parametrize("layer", LAYERS, ids=names)
def test_every_layer_tells_its_arguments_results_and_an_example(layer):
    sections = re.findall(r"^([A-Z][A-Za-z ]+):", inspect.cleandoc(layer.__doc__), flags=re.MULTILINE)
    assert {"Args", "Call arguments", "Returns", "Example"} <= set(sections)
    assert ">>>" in layer.__doc__


def arguments(function):
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in inspect.signature(function).parameters.values() if p.name != "self" and p.kind not in kinds]


def told(layer, section):
    """The arguments that a section of a docstring tells of, in its order."""
    text = inspect.cleandoc(layer.__doc__).partition(f"\n{section}:")[2]
    body = re.split(r"\n\S", text)[0]
    lines = re.findall(r"^ {4}((?:\w+, )*\w+):", body, flags=re.MULTILINE)
    return [name for line in lines for name in line.split(", ")]


@pytest.mark.parametrize("layer", LAYERS, ids=names)
def test_every_layer_tells_of_each_constructor_argument_in_order(layer):
    assert told(layer, "Args") == arguments(layer.__init__)


@pytest.mark.parametrize("layer", LAYERS, ids=names)
def test_every_layer_tells_of_each_call_argument(layer):
    if "as `" in inspect.cleandoc(layer.__doc__).partition("Call arguments:")[2].partition("\n")[0]:
        return  # as another layer's
    everywhere = {"training", "inputs_mask"}  # Keras fills both in
    assert set(told(layer, "Call arguments")) - everywhere == set(arguments(layer.call)) - everywhere


@pytest.mark.parametrize("layer", LAYERS, ids=names)
def test_every_layer_can_be_loaded_by_its_registered_name(layer):
    assert keras.saving.get_registered_name(layer) == f"keras_seqattn>{layer.__name__}"
