"""Tensors by name, as Hugging Face's libraries write them: one safetensors file, or several with an index."""

import json
from pathlib import Path

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class SafetensorsSource:
    """The tensors in a folder, of which each is read when it is taken; what was taken is noted.

    Attributes:
        shapes: dict from name to shape, of all tensors.

    Args:
        folder: with model.safetensors, or model.safetensors.index.json and the files that it names.
    Raises: FileNotFoundError when a file is not there; ValueError when one is not what its name says.
    """

    def __init__(self, folder):
        folder = Path(folder)
        paths = [folder / WEIGHTS]
        named = {}
        if not paths[0].is_file():
            if not (folder / INDEX).is_file():
                raise FileNotFoundError(
                    f"The weights are read from {WEIGHTS}, or {INDEX} and the files that it names. {advice(folder)} "
                    f"Received: {folder}, where neither is."
                )
            named = read_json(folder / INDEX).get("weight_map", {})
            paths = [folder / name for name in sorted(set(named.values()))]
        self.folder = folder
        self.files = {}
        for path in paths:
            file = open_safetensors(path)
            self.files.update(dict.fromkeys(file.keys(), file))
        absent = sorted(set(named) - set(self.files))
        if absent:
            raise ValueError(
                f"The files that {INDEX} names must hold the tensors that it names. Received: {folder}, which lacks "
                f"{listed(absent)}."
            )
        self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in self.files.items()}
        self.taken = set()

    def take(self, name):
        """The array of that name."""
        import ml_dtypes  # noqa: F401 - teaches NumPy the type bfloat16

        self.taken.add(name)
        try:
            return self.files[name].get_tensor(name)
        except (TypeError, AttributeError) as error:
            kind = self.files[name].get_slice(name).get_dtype()
            raise ValueError(
                "Tensors must be of a type that NumPy has, or bfloat16. "
                f"Received: {name} of type {kind} in {self.folder}."
            ) from error

    def left(self):
        """The shapes of the tensors that nobody took, by name."""
        return {name: shape for name, shape in self.shapes.items() if name not in self.taken}


def open_safetensors(path):
    """A safetensors file, its header read and checked."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(
            "Hugging Face's weights are read with the safetensors library. "
            "Install it with: pip install 'keras_seqattn[checkpoints]'."
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"Each file that {INDEX} names must be there. Received: {path}, which is not.")
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        with open(path, "rb") as file:
            is_pointer = file.read(64).startswith(b"version https://git-lfs")
        hint = " It is a pointer to the file proper: fetch that with `git lfs pull`." if is_pointer else ""
        raise ValueError(f"Weights must be a whole safetensors file. Received: {path}: {error}.{hint}") from error


def read_json(path):
    """The object in a JSON file."""
    try:
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:  # not JSON, or not even UTF-8
        raise ValueError(f"{Path(path).name} must be JSON. Received: {path}: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{Path(path).name} must hold an object. Received: {path} with {type(content).__name__}.")
    return content


def advice(folder):
    """What to do about weights in another format."""
    others = sorted(path.name for pattern in ("*.bin", "*.h5", "*.msgpack") for path in folder.glob(pattern))
    if not others:
        return "A folder written by `save_pretrained` has them."
    return f"Of {others[0]}, `transformers` makes them: load it there, and `save_pretrained` it anew."


def listed(names, most=20):
    """Names for a message: not all of a long list."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"
