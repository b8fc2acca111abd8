"""Merges requests that come at the same time into batches, by TensorFlow's own in-graph scheduler."""

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.models.batch_function import BatchFunction, NotBatchable, add_batch_function
from keras_seqattn.serving.models.batch_queue import BatchQueue, BatchRun, QueueIsFull, WaitedTooLong
from keras_seqattn.serving.models.batching_parameters import BatchingParameters, read_batching_parameters
from keras_seqattn.serving.models.servable import Array, RunResult, SavedModelServable, WrappedServable, check_inputs
from keras_seqattn.serving.models.signature import Signature

__all__ = ["BatchedServable", "BatchingParameters", "OnBatch", "batched", "read_batching_parameters"]

_LOG = logging.getLogger(__name__)

_FUNCTIONS = re.compile(r"^(?:\{\{function_node \S+\}\} ?)+")  # the one around the signature first
_SHAPES = re.compile(
    r"(?:Dimensions of inputs|Ranks of all input tensors) should match: "
    r"shape\[0\] = (\[[0-9,]*\]) vs\. shape\[[0-9]+\] = (\[[0-9,]*\])"
)

OnBatch = Callable[[str, int], None]
"""Told of each batch that ran: the signature, and the rows, padding included."""


def batched(
    servable: SavedModelServable, parameters: BatchingParameters, on_batch: OnBatch | None = None
) -> "BatchedServable":
    """Wraps a servable so that runs of the same signature share batches; to be called before its first run.

    A signature that cannot be put inside a function (variables of TensorFlow 1 that are used by reference, say) runs
    alone as before, with a warning.

    Args:
        servable: belongs to the result from now on.
        parameters: of the scheduler; each signature has its own queue and threads.
        on_batch: called in the thread of one of the batch's requests; must be quick.
    """
    graph_def = servable.graph.as_graph_def()
    functions = {}
    for name, signature in servable.signatures.items():
        if not signature.inputs or not signature.outputs:
            continue
        try:
            function = add_batch_function(servable.graph, graph_def, name, signature, parameters)
        except (NotBatchable, TypeError, ValueError) as reason:  # the latter two come from importing odd graphs
            _LOG.warning("Signature %s runs without batching: %s.", name, reason)
            continue
        functions[name] = function
    servable.extend()
    return BatchedServable(servable, functions, parameters, on_batch)


class BatchedServable(WrappedServable[SavedModelServable]):
    """A servable whose runs share batches; made by `batched`."""

    def __init__(
        self,
        servable: SavedModelServable,
        functions: Mapping[str, BatchFunction],
        parameters: BatchingParameters,
        on_batch: OnBatch | None,
    ) -> None:
        super().__init__(servable)
        self._functions = functions
        self._parameters = parameters
        self._on_batch = on_batch
        self._queues = {
            name: BatchQueue(
                partial(self._carry, name),
                capacity=(parameters.num_batch_threads + 1) * parameters.execution_size,
                max_waiting=(parameters.max_enqueued_batches - 1) * parameters.execution_size,
                max_joined=0 if function.pads else parameters.execution_size,
            )
            for name, function in functions.items()
        }

    @property
    def queue_depth(self) -> int:
        """Rows that wait, or are in batches that wait or run."""
        return sum(queue.depth for queue in self._queues.values())

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        timeout_seconds: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Runs a signature, as `SavedModelServable.run` does, in a batch with whatever else comes.

        All outputs are computed, for the others in the batch may want them. A run whose batch has begun ends with it:
        its answer may come after the timeout, and only when all runs of a batch are late is the batch cancelled.

        Raises: ServingError as `SavedModelServable.run`, and INVALID_ARGUMENT without a first dimension that all inputs
            share or with more rows than a batch may have, UNAVAILABLE when the queue is full, RESOURCE_EXHAUSTED when
            the time was over before the run's turn came, FAILED_PRECONDITION when the shapes in one batch differ or an
            output has not one row for each row of the inputs.
        """
        results: list[RunResult] = []
        is_done = threading.Event()

        def done(result: RunResult) -> None:
            results.append(result)
            is_done.set()

        withdraw = self.submit(signature_name, inputs, done, timeout_seconds, outputs)
        if withdraw is None:
            return self._servable.run(signature_name, inputs, timeout_seconds, outputs)
        if not is_done.wait(timeout_seconds if timeout_seconds is None else max(0.0, timeout_seconds)):
            withdraw()
            is_done.wait()
        if isinstance(results[0], Exception):
            raise results[0]
        return dict(results[0])

    def submit(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        done: Callable[[RunResult], None],
        timeout_seconds: float | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Callable[[], None] | None:
        """As `run`, but does not wait.

        Args:
            done: called with the outputs or a ServingError, in another thread; must be quick.
        Returns: a function that takes the run back where its batch has not begun, to be called after the timeout:
            `done` gets the error then. None where this signature or these inputs go into no batch: nothing is done.
        Raises: ServingError, where it is known at once.
        """
        signature = self.signatures[signature_name]
        check_inputs(inputs, signature)
        rows = self._num_rows(inputs)
        queue = self._queues.get(signature_name)
        if queue is None or rows == 0:  # of no rows, the op would not know the shape of the answer
            return None
        deadline = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds

        def told(result: RunResult) -> None:
            if isinstance(result, Exception):
                function = self._functions[signature_name]
                result = _own_words(result, function, signature, inputs, time.monotonic() >= deadline)
            done(result)

        run = BatchRun(inputs, rows, list(signature.outputs if outputs is None else outputs), told, deadline)

        def withdraw() -> None:
            if queue.withdraw(run):
                told(WaitedTooLong())

        try:
            queue.submit(run)
        except QueueIsFull:
            most = self._parameters.max_enqueued_batches
            raise ServingError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{most} batches enqueued and max_enqueued_batches is {most}",
            ) from None
        return withdraw

    def close(self) -> None:
        """Frees the model. No run may be under way."""
        for queue in self._queues.values():
            queue.close()
        super().close()

    def _carry(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float
    ) -> dict[str, Array]:
        """Gives rows to TensorFlow's op, which waits for more of them, and gets their outputs."""
        function = self._functions[signature_name]
        specs = self.signatures[signature_name].inputs
        fetches = [function.outputs[name] for name in outputs]
        if self._on_batch is not None:
            fetches.append(function.places)
        results = self._servable.run_tensors(
            {specs[name].tensor_name: array for name, array in inputs.items()},
            fetches,
            None if deadline == math.inf else max(0.001, deadline - time.monotonic()),
            in_this_thread=True,
        )
        if self._on_batch is not None:
            for place, size in results.pop().tolist():
                if place == 0:  # the rows that hold a batch's first tell of it
                    self._on_batch(signature_name, size)
        return dict(zip(outputs, results, strict=True))

    def _num_rows(self, inputs: Mapping[str, Array]) -> int:
        num_rows = -1
        for array in inputs.values():
            if array.ndim == 0:
                raise _invalid("Batching Run() input tensors must have at least one dimension")
            if num_rows not in (-1, array.shape[0]):
                raise _invalid("Batching Run() input tensors must have equal 0th-dimension size")
            num_rows = array.shape[0]
        if num_rows < 0:
            raise _invalid("Batching Run() must have at least one input tensor")
        if num_rows > self._parameters.max_batch_size:
            raise _invalid(
                f"Task size {num_rows} is larger than maximum input batch size {self._parameters.max_batch_size}"
            )
        return num_rows


def _own_words(
    error: Exception, function: BatchFunction, signature: Signature, inputs: Mapping[str, Array], is_late: bool
) -> ServingError:
    """An error of the op in the words of TensorFlow Serving's batching; errors of the model stay as they are."""
    if isinstance(error, WaitedTooLong):
        return ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
    error = as_serving_error(error)
    if is_late and error.code in (Code.CANCELLED, Code.INTERNAL, Code.DEADLINE_EXCEEDED):
        return ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
    message = _FUNCTIONS.sub("", error.message)
    message = re.sub(rf"\s*\[\[(\{{\{{node )?{re.escape(function.node_name)}(\}}\}})?\]\]\s*$", "", message)
    shapes = _SHAPES.match(message)
    if error.code == Code.INVALID_ARGUMENT and shapes:
        ours = [name for name, array in inputs.items() if str(list(array.shape)).replace(" ", "") in shapes.groups()]
        tensor_name = signature.inputs[ours[0] if ours else next(iter(inputs))].tensor_name
        return ServingError(
            Code.FAILED_PRECONDITION,
            f"Tensors with name '{tensor_name}' from different tasks have different shapes and padding is turned off."
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
            "have equal dimensions starting with the first dim.",
        )
    return ServingError(error.code, message)


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
