"""Where a model of Hugging Face's is read from: folders, the hub, and the files in them."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_seqattn.checkpoints import load_huggingface, load_huggingface_tokenizer
from keras_seqattn.checkpoints.safetensors_source import SafetensorsSource


@pytest.fixture
def tensors(rng):
    return {name: rng.normal(size=(2, 3)).astype("float32") for name in "abc"}


def write_shards(folder, tensors):
    files = {name: f"model-{i}.safetensors" for i, name in enumerate(tensors)}
    for name, file in files.items():
        save_file({name: tensors[name]}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


@pytest.mark.parametrize("shards", [False, True])
def test_tensors_are_read_by_name_and_what_was_taken_is_noted(tmp_path, tensors, shards):
    if shards:
        write_shards(tmp_path, tensors)
    else:
        save_file(tensors, tmp_path / "model.safetensors")
    source = SafetensorsSource(tmp_path)
    assert source.shapes == dict.fromkeys("abc", (2, 3))
    np.testing.assert_array_equal(source.take("b"), tensors["b"])
    assert source.left() == {"a": (2, 3), "c": (2, 3)}


def test_a_missing_shard_is_named(tmp_path, tensors):
    write_shards(tmp_path, tensors)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"must be there. Received: .*model-1.safetensors"):
        SafetensorsSource(tmp_path)


def test_a_shard_without_its_tensor_is_told(tmp_path, tensors):
    write_shards(tmp_path, tensors)
    save_file({"other": tensors["b"]}, tmp_path / "model-1.safetensors")
    with pytest.raises(ValueError, match=r"must hold the tensors that it names. Received: .*which lacks b"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda content: b"", "must be a whole safetensors file. Received: .*model.safetensors"),
        (lambda content: content[:-4], "must be a whole safetensors file"),
        (
            lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "fetch that with `git lfs pull`",
        ),
    ],
    ids=["empty", "cut", "pointer"],
)
def test_a_broken_file_is_named(tmp_path, tensors, cut, message):
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        SafetensorsSource(tmp_path)


def test_without_weights_the_way_to_them_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.safetensors, or .*written by `save_pretrained` has them"):
        SafetensorsSource(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match="Of pytorch_model.bin, `transformers` makes them"):
        SafetensorsSource(tmp_path)


def test_a_folder_without_a_config_is_told_with_what_it_has(tmp_path):
    (tmp_path / "weights.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"must hold config.json. Received: .* with weights.bin"):
        load_huggingface(tmp_path)


@pytest.mark.parametrize("source", ["./nowhere/model", "/nowhere", "a/b/c", "two words"])
def test_what_is_neither_a_folder_nor_a_name_is_refused(source):
    with pytest.raises(FileNotFoundError, match=r"must be a folder, or a name on the hub.*Received: source="):
        load_huggingface(source)


def test_a_file_or_a_number_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="must be a folder"):
        load_huggingface(tmp_path / "file")
    with pytest.raises(ValueError, match="`source` must be a path or a name on the hub. Received: source=7"):
        load_huggingface(7)


def test_a_name_is_fetched_from_the_hub_with_no_more_than_is_read(tmp_path, monkeypatch):
    import huggingface_hub

    calls = []

    def download(name, allow_patterns):
        calls.append(name)
        assert {"config.json", "model.safetensors", "vocab.txt"} <= set(allow_patterns)
        assert not [pattern for pattern in allow_patterns if pattern.endswith((".bin", ".h5", "*"))]
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    assert load_huggingface_tokenizer("someone/a-model_1.0").vocabulary_size == 5
    assert calls == ["someone/a-model_1.0"]


def test_a_name_that_cannot_be_fetched_is_told_with_the_reason(monkeypatch):
    import huggingface_hub

    def download(name, allow_patterns):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match=r"source='someone/model', which is no folder, .*OSError: no network"):
        load_huggingface("someone/model")


@pytest.mark.parametrize("module", ["huggingface_hub", "safetensors"])
def test_a_missing_library_is_named_with_its_remedy(tmp_path, tensors, monkeypatch, module):
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"keras_seqattn\[checkpoints\]"):
        load_huggingface(tmp_path if module == "safetensors" else "someone/model")
