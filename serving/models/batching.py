"""Merges requests that come at the same time into batches, by TensorFlow's own in-graph scheduler."""

import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.models.admission import Admission, QueueIsFull, WaitedTooLong
from keras_seqattn.serving.models.batch_function import BatchFunction, NotBatchable, add_batch_function
from keras_seqattn.serving.models.batching_parameters import BatchingParameters, read_batching_parameters
from keras_seqattn.serving.models.servable import Array, SavedModelServable, WrappedServable, check_inputs
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
    queues = {}
    for name, signature in servable.signatures.items():
        if not signature.inputs or not signature.outputs:
            continue
        try:
            function = add_batch_function(servable.graph, graph_def, name, signature, parameters)
        except (NotBatchable, TypeError, ValueError) as reason:  # the latter two come from importing odd graphs
            _LOG.warning("Signature %s runs without batching: %s.", name, reason)
            continue
        queues[name] = _Queue(function, parameters)
    servable.extend()
    return BatchedServable(servable, queues, parameters, on_batch)


class BatchedServable(WrappedServable[SavedModelServable]):
    """A servable whose runs share batches; made by `batched`."""

    def __init__(
        self,
        servable: SavedModelServable,
        queues: Mapping[str, "_Queue"],
        parameters: BatchingParameters,
        on_batch: OnBatch | None,
    ) -> None:
        super().__init__(servable)
        self._queues = queues
        self._parameters = parameters
        self._on_batch = on_batch

    @property
    def queue_depth(self) -> int:
        """Rows that wait, or are in batches that wait or run."""
        return sum(queue.admission.waiting + queue.admission.inside for queue in self._queues.values())

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
        signature = self.signatures[signature_name]
        queue = self._queues.get(signature_name)
        check_inputs(inputs, signature)
        rows = self._num_rows(inputs)
        if queue is None or rows == 0:  # of no rows, the op would not know the shape of the answer
            return self._servable.run(signature_name, inputs, timeout_seconds, outputs)
        feeds = {spec.tensor_name: inputs[name] for name, spec in signature.inputs.items()}
        chosen = list(signature.outputs if outputs is None else outputs)
        fetches = [queue.function.outputs[name] for name in chosen]
        if self._on_batch is not None:
            fetches.append(queue.function.places)
        deadline = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        ticket, last_deadline = self._enter(queue.admission, rows, deadline)
        try:
            seconds = None if last_deadline == math.inf else max(0.001, last_deadline - time.monotonic())
            results = self._servable.run_tensors(feeds, fetches, seconds, in_this_thread=True)
        except ServingError as error:
            raise _own_words(error, queue.function, signature, inputs, time.monotonic() >= deadline) from error
        finally:
            queue.admission.leave(ticket, rows)
        if self._on_batch is not None:
            for place, size in results.pop().tolist():
                if place == 0:  # the request with a batch's first row tells of it
                    self._on_batch(signature_name, size)
        return dict(zip(chosen, results, strict=True))

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

    def _enter(self, admission: Admission, rows: int, deadline: float) -> tuple[int, float]:
        try:
            return admission.enter(rows, deadline)
        except QueueIsFull:
            most = self._parameters.max_enqueued_batches
            raise ServingError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{most} batches enqueued and max_enqueued_batches is {most}",
            ) from None
        except WaitedTooLong:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
            ) from None


class _Queue:
    """What waits for one signature's batches.

    TensorFlow's op keeps a run in its queue whatever its deadline, and cancels a whole batch with the run that came
    last. So the op gets only what its threads can take up next; the rest waits in front of it, where it can still be
    dropped. And a run in the op may last until the latest deadline of all that are with it.
    """

    def __init__(self, function: BatchFunction, parameters: BatchingParameters) -> None:
        self.function = function
        self.admission = Admission(
            capacity=(parameters.num_batch_threads + 1) * parameters.execution_size,
            max_waiting=(parameters.max_enqueued_batches - 1) * parameters.execution_size,
        )


def _own_words(
    error: ServingError, function: BatchFunction, signature: Signature, inputs: Mapping[str, Array], is_late: bool
) -> ServingError:
    """An error of the op in the words of TensorFlow Serving's batching; errors of the model stay as they are."""
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
