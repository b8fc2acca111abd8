"""The rooms of the project, and the arrows between them: every import line is read."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = "keras_seqattn"
PACKAGES = {"training": f"{LIBRARY}.training", "serving": f"{LIBRARY}.serving"}  # folders beside the library

# From each room to the rooms that it may import; itself always. Files beside the rooms count as rooms of their own.
ARROWS = {
    "ops": set(),
    "layers": {"ops"},
    "decoding": {"ops"},
    "text": {"ops"},
    "losses": {"ops"},
    "metrics": {"ops"},
    "schedules": set(),
    "models": {"layers", "decoding", "ops", "losses", "metrics"},
    "inspection": {"ops", "layers", "models"},
    "checkpoints": {"ops", "layers", "models", "text"},
    "testing": {"ops", "layers", "models"},
    "training": {
        "ops", "layers", "decoding", "text", "losses", "metrics", "schedules", "models", "inspection", "checkpoints",
    },
    "serving": set(),
    "serving/export/saved_model.py": {"models", "text", "decoding", "ops", "layers", "losses", "metrics", "inspection"},
    "serving/export/streaming.py": {"text", "decoding"},
}  # fmt: skip
# The command line and what it starts may reach every room, but only from inside functions.
ENTRANCES = {"cli", "demo"}
# The package itself names its rooms; it may not pull in those that need more than Keras.
OPENED_AT_IMPORT = {"checkpoints", "decoding", "layers", "losses", "metrics", "models", "ops", "schedules"}
# Imported inside the function that needs them: the library works without them, and starts without waiting for them.
LAZY = {
    "babel", "grpc", "grpc_health", "grpc_reflection", "httpx", "huggingface_hub", "jax", "matplotlib", "orjson",
    "prometheus_client", "sacrebleu", "sacremoses", "safetensors", "sentencepiece", "starlette", "tensorboard",
    "tensorflow", "tensorflow_serving", "tensorflow_text", "tokenizers", "torch", "transformers", "uvicorn",
}  # fmt: skip


def room_of(module):
    """The room of a dotted module name, or None when it lies outside the project."""
    parts = module.split(".")
    return (parts[1] if len(parts) > 1 else "") if parts[0] == LIBRARY else None


def sources():
    """Every file: its path from the root, and the room that it belongs to."""
    for folder in (LIBRARY, *PACKAGES):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            room = folder if folder in PACKAGES else (relative.parts[1].removesuffix(".py"))
            yield relative, "" if room == "__init__" else room


FILES = list(sources())


def imports(path):
    """The import lines of a file: (line, module, names or None, whether it stands at top level)."""
    tree = ast.parse((ROOT / path).read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(function, ast.If) and "TYPE_CHECKING" in ast.dump(function.test))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None, id(node) not in inside
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = ((LIBRARY,) if path.parts[0] in PACKAGES else ()) + path.parts[: -node.level]
                module = ".".join([*package, *filter(None, [module])])
            yield node.lineno, module, [alias.name for alias in node.names], id(node) not in inside


def project_imports(path):
    """The imports of the project's own modules, `from keras_seqattn import ops` as `keras_seqattn.ops`."""
    for line, module, names, top in imports(path):
        if module == LIBRARY and names:
            for name in names:
                yield line, f"{LIBRARY}.{name}", None, top
        elif room_of(module) is not None:
            yield line, module, names, top


@pytest.mark.parametrize(("path", "room"), FILES, ids=[str(path) for path, _ in FILES])
def test_a_file_imports_only_along_the_arrows(path, room):
    if room in ENTRANCES:
        wrong = [f"{path}:{line}: {module}" for line, module, _, top in project_imports(path) if top]
        assert not [one for one in wrong if room_of(one.split(": ")[1]) in PACKAGES], wrong
        return
    allowed = OPENED_AT_IMPORT if room == "" else ARROWS.get(str(path), ARROWS.get(room))
    assert allowed is not None, f"{path} is in no room that the arrows know; add it to DESIGN and here"
    wrong = [
        f"{path}:{line}: {room or LIBRARY} -> {room_of(module)}"
        for line, module, _, _ in project_imports(path)
        if room_of(module) not in allowed | {room, "__version__"}
    ]
    assert not wrong


@pytest.mark.parametrize(("path", "room"), FILES, ids=[str(path) for path, _ in FILES])
def test_nobody_imports_training_or_serving_by_a_bare_name(path, room):
    # Classes would register twice with Keras, once under each name.
    assert not [f"{path}:{line}" for line, module, _, _ in imports(path) if module.split(".")[0] in PACKAGES]


# training/ and serving/ are programs, and begin with what they cannot do without.
@pytest.mark.parametrize("path", [path for path, _ in FILES if path.parts[0] == LIBRARY], ids=str)
def test_heavy_and_optional_packages_are_imported_inside_functions(path):
    lines = [(line, module) for line, module, _, top in imports(path) if top]
    assert not [f"{path}:{line}: {module}" for line, module in lines if module.split(".")[0] in LAZY]


@pytest.mark.parametrize(("path", "room"), FILES, ids=[str(path) for path, _ in FILES])
def test_nothing_private_crosses_a_room(path, room):
    wrong = [
        f"{path}:{line}: {module} {names or ''}"
        for line, module, names, _ in project_imports(path)
        if room_of(module) != room
        and any(part.startswith("_") and not part.startswith("__") for part in [*module.split("."), *(names or [])])
    ]
    assert not wrong


@pytest.mark.parametrize(("path", "room"), FILES, ids=[str(path) for path, _ in FILES])
def test_every_file_is_named_after_what_it_does(path, room):
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}


@pytest.mark.parametrize("path", [path for path, room in FILES if room == "layers"], ids=str)
def test_a_file_of_layers_holds_one_public_class_at_most_and_is_named_after_it(path):
    tree = ast.parse((ROOT / path).read_text())
    exported = (ROOT / LIBRARY / "layers" / "__init__.py").read_text()
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and f'"{node.name}"' in exported]
    assert len(classes) <= 1
    assert all(name.lower() == path.stem.replace("_", "") for name in classes)


def test_importing_the_library_imports_no_heavy_or_optional_package():
    # Keras itself imports matplotlib where that is installed.
    code = f"import sys, keras; had = set(sys.modules); import {LIBRARY}; print(*{LAZY!r} & set(sys.modules) - had)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
