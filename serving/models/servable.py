"""One loaded version of a model, and how to run it.

A SavedModel is run as TensorFlow Serving runs it: in a session of its own, feeding and fetching the tensors that the
signature names. So TensorFlow 1 and 2 models load alike, shapes are checked by ops alone, errors keep the text of the
op, a run can time out, and a call costs some 20 microseconds over the graph itself.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.models.signature import Signature, signature_from_proto

__all__ = ["SavedModelServable", "Servable", "WrappedServable", "check_inputs", "load_saved_model"]

Array = npt.NDArray[Any]
RunResult = Mapping[str, Array] | Exception  # the outputs of a run by name, or why there are none

_INIT_OP = "__saved_model_init_op"
_DTYPE_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


class Servable(Protocol):
    """What runs signatures. The repository hands it out; transports call it; batching wraps it in another one."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures that can be run."""

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """`tensorflow.SignatureDef` protos by name, all that the model has, for metadata."""

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        timeout_seconds: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Runs a signature, for all its outputs or the named ones; safe to call from many threads at once."""

    def close(self) -> None:
        """Frees the model. No run may be under way."""


Wrapped = TypeVar("Wrapped", bound=Servable)


class WrappedServable(Generic[Wrapped]):
    """A servable around another one, which belongs to it; what `run` adds to that one is the subclass's own."""

    def __init__(self, servable: Wrapped) -> None:
        self._servable = servable

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures that can be run."""
        return self._servable.signatures

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """`tensorflow.SignatureDef` protos by name."""
        return self._servable.signature_defs

    def close(self) -> None:
        """Frees the model. No run may be under way."""
        self._servable.close()


class SavedModelServable:
    """A SavedModel in a session; made by `load_saved_model`.

    Args:
        session: with the model's graph, variables and tables.
        signature_defs: `tensorflow.SignatureDef` by name.
    """

    def __init__(self, session: Any, signature_defs: Mapping[str, Any]) -> None:
        from tensorflow.core.protobuf import config_pb2
        from tensorflow.python.client import pywrap_tf_session

        self._c_api, self._run_options = pywrap_tf_session, config_pb2.RunOptions
        self.signature_defs = dict(signature_defs)
        self.signatures: dict[str, Signature] = {
            name: signature_from_proto(proto) for name, proto in signature_defs.items() if name != _INIT_OP
        }
        self._session = session
        self._tensors: dict[str, Any] = {}  # by name, as the session's C interface wants them

    @property
    def graph(self) -> Any:
        """The `tf.Graph` that the session runs; once nodes are added, `extend` is to be called."""
        return self._session.graph

    def extend(self) -> None:
        """Makes nodes known to the session that were added to the graph after loading."""
        self._session._extend_graph()

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        timeout_seconds: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Runs a signature.

        Args:
            signature_name: one of `signatures`.
            inputs: an array for each input, strings as object arrays of bytes.
            timeout_seconds: after which the run is cancelled; None waits for ever.
            outputs: names of the outputs to compute, without repetition; None is all, in alphabetical order.
        Returns: an array for each of these outputs, in their order.
        Raises: ServingError with the code and text of the op that failed, DEADLINE_EXCEEDED after the timeout,
            INVALID_ARGUMENT when names or dtypes of the inputs do not match.
        """
        signature = self.signatures[signature_name]
        check_inputs(inputs, signature)
        chosen = list(signature.outputs if outputs is None else outputs)
        results = self.run_tensors(
            {spec.tensor_name: inputs[name] for name, spec in signature.inputs.items()},
            [signature.outputs[name].tensor_name for name in chosen],
            timeout_seconds,
        )
        return dict(zip(chosen, results, strict=True))

    def run_tensors(
        self,
        feeds: Mapping[str, Array],
        fetches: Sequence[str],
        timeout_seconds: float | None = None,
        in_this_thread: bool = False,
    ) -> list[Array]:
        """Feeds and fetches tensors by their names in the graph.

        Args:
            feeds: arrays by tensor names.
            fetches: tensor names.
            timeout_seconds: after which the run is cancelled; None waits for ever.
            in_this_thread: runs the ops here rather than in TensorFlow's own threads, which saves waking them; the
                timeout then counts for ops that wait for something alone.
        Raises: ServingError as `run` does.
        """
        c_api = self._c_api
        timeout_ms = 0 if timeout_seconds is None else max(1, round(timeout_seconds * 1000))
        options = self._run_options(timeout_in_ms=timeout_ms, inter_op_thread_pool=-1 if in_this_thread else 0)
        buffer = c_api.TF_NewBufferFromString(options.SerializeToString())
        try:
            # What session.run calls in the end. That one compares shapes with the signature first, and words errors
            # with Python stacks; neither is what TensorFlow Serving does. A callable costs 7 ms for each new timeout.
            results = c_api.TF_SessionRun_wrapper(
                self._session._session,
                buffer,
                {self._tensor(name): array for name, array in feeds.items()},
                [self._tensor(name) for name in fetches],
                [],
                None,
            )
        except Exception as error:
            raise as_serving_error(error) from error
        finally:
            c_api.TF_DeleteBuffer(buffer)
        return [_as_array(result) for result in results]

    def close(self) -> None:
        """Frees the session with all its variables and tables, and the graph."""
        from tensorflow.python.framework import ops

        session, self._session = self._session, None
        self._tensors.clear()
        if session is not None:
            graph = session.graph
            session.close()
            ops.dismantle_graph(graph)  # else cycles keep it, constants included, until Python's next full collection

    def _tensor(self, name: str) -> Any:
        tensor = self._tensors.get(name)
        if tensor is None:
            tensor = self._tensors[name] = self.graph.get_tensor_by_name(name)._as_tf_output()
        return tensor


def check_inputs(inputs: Mapping[str, Array], signature: Signature) -> None:
    """Compares names and dtypes of arrays with a signature. Raises ServingError, INVALID_ARGUMENT."""
    if inputs.keys() != signature.inputs.keys():
        raise _input_mismatch(inputs, signature)
    for index, (name, spec) in enumerate(signature.inputs.items()):
        provided = _dtype_name(inputs[name].dtype)
        if provided != spec.dtype:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Expects arg[{index}] to be {spec.dtype} but {provided} is provided"
            )


def _dtype_name(dtype: np.dtype[Any]) -> str:
    """A NumPy dtype as TensorFlow's messages write it."""
    if dtype.kind in "OSU":
        return "string"
    return _DTYPE_NAMES.get(dtype.name, dtype.name)


def _as_array(result: Any) -> Array:
    """A session gives scalars as plain values; a string must not become a fixed-width NumPy string."""
    if isinstance(result, bytes):
        array = np.empty((), dtype=object)
        array[()] = result
        return array
    return np.asarray(result)


def _input_mismatch(inputs: Mapping[str, Array], signature: Signature) -> ServingError:
    sent, wanted = sorted(inputs), sorted(signature.inputs)
    return ServingError(
        Code.INVALID_ARGUMENT,
        f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{','.join(sent)}}}) != "
        f"len({{{','.join(wanted)}}}). Sent extra: {{{','.join(sorted(set(sent) - set(wanted)))}}}. "
        f"Missing but required: {{{','.join(sorted(set(wanted) - set(sent)))}}}.",
    )


def load_saved_model(
    path: str | os.PathLike[str], tags: Sequence[str] = ("serve",), session_config: Any = None
) -> SavedModelServable:
    """Loads one version folder.

    Args:
        path: the folder with `saved_model.pb`.
        tags: of the graph to take.
        session_config: a `tensorflow.ConfigProto`, as from `serving.models.session_config`; None is TensorFlow's own.
    Raises: ServingError; NOT_FOUND when the file, the tags or an op is missing, else what TensorFlow says.
    """
    import tensorflow as tf

    text_problem = _register_text_ops()
    path = os.fspath(path)
    if not any(tf.io.gfile.exists(f"{path}/saved_model{suffix}") for suffix in (".pb", ".pbtxt")):
        raise ServingError(
            Code.NOT_FOUND, f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"
        )
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=session_config)
    try:
        with graph.as_default(), _without_deprecation_log():
            meta_graph = tf.compat.v1.saved_model.loader.load(session, list(tags), path)
        return SavedModelServable(session, dict(meta_graph.signature_def))
    except Exception as error:
        session.close()
        raise _load_error(error, path, tags, text_problem) from error


def _register_text_ops() -> str:
    """Makes tensorflow-text's ops known; returns why that is not possible, or an empty text."""
    try:
        import tensorflow_text  # noqa: F401
    except ImportError as error:
        return f"tensorflow_text is not installed: {error}"
    except Exception as error:  # built for another TensorFlow: its library does not load
        return f"tensorflow_text does not load: {error}"
    return ""


@contextmanager
def _without_deprecation_log() -> Iterator[None]:
    """The loader of TensorFlow 1 models logs at each call that there is a newer one; that one checks shapes."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return "deprecat" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def _load_error(error: Exception, path: str, tags: Sequence[str], text_problem: str) -> ServingError:
    text = str(getattr(error, "message", error))
    missing_op = re.search(r"[Oo]p type not registered '([^']+)'", text) or re.search(r"No op named (\S+)", text)
    if missing_op:
        hint = text_problem or "Ops of other packages must be imported before the server loads the model."
        return ServingError(
            Code.NOT_FOUND,
            f"Op type not registered '{missing_op.group(1)}', which the model in {path} uses: no package that is "
            f"installed here defines it. {hint}",
        )
    if isinstance(error, RuntimeError) and "tags" in text:
        return ServingError(
            Code.NOT_FOUND, f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }} in {path}."
        )
    return as_serving_error(error)
