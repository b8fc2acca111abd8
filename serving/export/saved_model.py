"""From a trained model to a folder that TensorFlow Serving answers from.

saved_models/NAME/VERSION/
    saved_model.pb, variables/, ...             signatures, strings in and out: `serving_default`, `serving_attention`
                                                of text to text models, `init` and `step` where a model streams
    assets.extra/tf_serving_warmup_requests     requests that a server runs before the version takes traffic
    model_card.json                             where the model comes from and what it scored
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keras_seqattn.decoding import Greedy
from keras_seqattn.serving.export.streaming import streaming_of
from keras_seqattn.serving.optional import packages_of_extra
from keras_seqattn.text import TextGeneration, TextToText

__all__ = ["export_text_generation", "export_text_to_text", "next_version"]

ANSWER = ("answer", "score", "source_truncated", "answer_truncated")
ATTENTION = (*ANSWER, "source_tokens", "answer_tokens", "attention")
SIGNATURES = {"serving_default": ANSWER, "serving_attention": ATTENTION}  # from `text`
CONTINUATION = ("text", "score", "prompt_truncated", "ended")
GENERATION_SIGNATURES = {"serving_default": CONTINUATION}  # from `prompt`
WRITING = ".writing-"  # servers look at names that are numbers, and at no others


def export_text_to_text(
    answering: TextToText,
    folder: str | os.PathLike[str],
    card: Mapping[str, Any],
    warmup_texts: Sequence[str],
    use_xla: bool = False,
) -> Path:
    """Writes the next version of a model that takes strings and gives strings.

    The version appears at once and whole: it is written beside its place and then renamed.

    Args:
        answering: the model between its tokenizers, with its decoder.
        folder: `saved_models/NAME`; the version becomes its next free number.
        card: what model_card.json says beside what is known here; plain JSON.
        warmup_texts: texts that a server answers before the version takes traffic; at least one.
        use_xla: compile model and decoder by XLA (strings stay outside), which wants static shapes: every new size or
            length of a batch compiles anew.
    Returns: the version's folder.
    Raises: ValueError without a warm-up text; ImportError without the serving extra.
    """
    return write_version(answering, Path(folder), card, warmup_texts, use_xla)


def export_text_generation(
    generation: TextGeneration,
    folder: str | os.PathLike[str],
    card: Mapping[str, Any],
    warmup_prompts: Sequence[str],
    use_xla: bool = False,
) -> Path:
    """Writes the next version of a model that takes prompts and gives what follows them, as `export_text_to_text` does.

    Args:
        generation: the model with its tokenizer and its decoder.
        folder: `saved_models/NAME`; the version becomes its next free number.
        card: what model_card.json says beside what is known here; plain JSON.
        warmup_prompts: prompts that a server continues before the version takes traffic; at least one, and "" will do.
        use_xla: compile model and decoder by XLA; each new size of a batch compiles anew.
    Returns: the version's folder.
    Raises: ValueError without a warm-up prompt; ImportError without the serving extra.
    """
    return write_version(generation, Path(folder), card, warmup_prompts, use_xla)


def write_version(
    answering: TextToText | TextGeneration, folder: Path, card: Mapping[str, Any], texts: Sequence[str], use_xla: bool
) -> Path:
    """All files of the next version, which appears when they are there."""
    if not texts:
        name = "warmup_prompts" if isinstance(answering, TextGeneration) else "warmup_texts"
        raise ValueError(f"`{name}` must hold at least one text: without it the first client waits. Received none.")
    with whole_version(folder) as beside:
        signatures = write_saved_model(answering, beside, use_xla)
        write_warmup(beside, folder.name, texts, signatures)
        write_card(answering, beside, folder.name, card, signatures)
    return beside.version


class Beside(os.PathLike[str]):
    """A folder that is being written; `version` is where it ends up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = path

    def __fspath__(self) -> str:
        return str(self.path)


@contextlib.contextmanager
def whole_version(folder: Path) -> Iterator[Beside]:
    """A folder to write into, which becomes the next version when the block ends, and is gone when it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    beside = Beside(Path(tempfile.mkdtemp(prefix=f"{WRITING}{os.getpid()}-", dir=folder)))
    try:
        yield beside
        os.chmod(beside.path, 0o755)  # mkdtemp's are closed to the server's user
        flush(beside.path)
        while True:  # another export may take the number first
            beside.version = folder / str(next_version(folder))
            try:
                os.rename(beside.path, beside.version)
                break
            except OSError:
                if not beside.version.exists():
                    raise
    except BaseException:
        shutil.rmtree(beside.path, ignore_errors=True)
        raise


def next_version(folder: Path) -> int:
    """The number after the highest version in `folder`; 1 in an empty one."""
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1


def remove_leftovers(folder: Path) -> None:
    """Removes what exports left behind that were killed, so that no process of theirs runs any more."""
    for path in folder.glob(f"{WRITING}*"):
        process = path.name.removeprefix(WRITING).split("-")[0]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def flush(folder: Path) -> None:
    """Has every file of `folder` written to its disk, so that the renamed folder is whole after a crash too."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def write_saved_model(
    answering: TextToText | TextGeneration, path: os.PathLike[str], use_xla: bool
) -> dict[str, dict[str, list[str]]]:
    """The SavedModel itself, for batches of any size and texts of any length.

    Returns: for each signature the names of its `inputs` and `outputs`.
    """
    import keras
    import tensorflow as tf

    whole: Mapping[str, Sequence[str]]
    if isinstance(answering, TextGeneration):
        tokenizers, name_of_text, whole = [answering.tokenizer], "prompt", GENERATION_SIGNATURES
    else:
        tokenizers, name_of_text = [answering.source_tokenizer, answering.target_tokenizer], "text"
        whole = SIGNATURES
    archive = keras.export.ExportArchive()
    archive.track(answering.model)
    for tokenizer in tokenizers:
        for resource in tokenizer.trackables:
            archive.track(resource)
    text = tf.TensorSpec((None,), tf.string, name=name_of_text)
    signatures = {}

    def add(name: str, function: Any, inputs: Any, takes: Sequence[str]) -> None:
        endpoint = archive.add_endpoint(name, function, input_signature=[inputs])
        outputs = endpoint.get_concrete_function().structured_outputs
        signatures[name] = {"inputs": list(takes), "outputs": list(outputs)}

    def endpoint(names: Sequence[str]) -> Any:
        def answer(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            found = answering.answer(texts, use_xla)
            return {name: found[name] for name in names}

        return answer

    for name, outputs in whole.items():
        add(name, endpoint(outputs), text, [name_of_text])
    streaming = streaming_of(answering, use_xla)
    if streaming is not None:
        add("init", streaming.init, text, [name_of_text])
        add("step", streaming.step, streaming.input_signature(), list(streaming.input_signature()))
    archive.write_out(os.fspath(path), verbose=False)
    return signatures


def write_warmup(
    path: os.PathLike[str],
    model_name: str,
    texts: Sequence[str],
    signatures: Mapping[str, Mapping[str, Sequence[str]]],
) -> None:
    """Requests for every signature, as a server replays them: a TFRecord of PredictionLog.

    `step` is asked for the state that `init` gives, with zeros for its numbers, which keeps a large one small here.
    """
    import tensorflow as tf

    with packages_of_extra("serving"):
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    text, state = tf.constant(list(texts)), {}
    if "init" in signatures:
        state = tf.saved_model.load(os.fspath(path)).signatures["init"](text)
    extra = Path(path) / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for name, tensors in signatures.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = name
            for tensor in tensors["inputs"]:
                request.inputs[tensor].CopyFrom(warmup_tensor(state[tensor] if name == "step" else text))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request),
            )
            writer.write(log.SerializeToString())


def warmup_tensor(tensor: Any) -> Any:
    """A TensorProto of this tensor, or of as many zeros as there are floats: one value says them all."""
    import tensorflow as tf

    if not tensor.dtype.is_floating or not tensor.shape.num_elements():
        return tf.make_tensor_proto(tensor.numpy())
    return tf.make_tensor_proto(0.0, tensor.dtype, tensor.shape)


def write_card(
    answering: TextToText | TextGeneration,
    path: os.PathLike[str],
    model_name: str,
    card: Mapping[str, Any],
    signatures: Mapping[str, Mapping[str, Sequence[str]]],
) -> None:
    """model_card.json: what the model is, takes and gives, where it comes from, and what it scored."""
    import keras
    import tensorflow as tf

    decoder = answering.decoder or Greedy()
    if isinstance(answering, TextGeneration):
        what = {
            "max_prompt_tokens": answering.max_prompt_length,
            "max_new_tokens": answering.max_length,
            "empty_prompt": answering.empty_prompt,
            "tokenizer": type(answering.tokenizer).__name__,
        }
    else:
        what = {
            "max_source_tokens": answering.max_source_length,
            "max_answer_tokens": answering.max_target_length,
            "source_tokenizer": type(answering.source_tokenizer).__name__,
            "answer_tokenizer": type(answering.target_tokenizer).__name__,
        }
    content = {
        "name": model_name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": "text generation" if isinstance(answering, TextGeneration) else "text to text",
        "model": type(answering.model).__name__,
        "weights": answering.model.count_params(),
        "decoder": {"name": type(decoder).__name__, **decoder.get_config()},
        **what,
        "signatures": signatures,
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        **card,
    }
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    (Path(path) / "model_card.json").write_text(text, encoding="utf-8")
