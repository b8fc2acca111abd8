"""Puts TensorFlow's in-graph batch scheduler around a signature, in the graph that the session runs already.

The nodes between the signature's inputs and outputs are copied into the body of a function, and a `BatchFunction` op
calls that function with the rows of several runs. Variables and tables stay outside and are handed in: there is one of
each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_seqattn.serving.models.batching_parameters import BatchingParameters
from keras_seqattn.serving.models.signature import Signature

__all__ = ["BatchFunction", "NotBatchable", "add_batch_function"]


class NotBatchable(Exception):
    """Why a signature cannot stand inside a function."""


@dataclass(frozen=True)
class BatchFunction:
    """What to fetch in place of a signature's own outputs.

    Args:
        node_name: of the op, as it stands in errors.
        outputs: tensor names by output names.
        places: name of an int32 tensor with two numbers for each row: its place in the batch, and the batch's rows.
        pads: whether rows of different shapes are padded, each run's by its own first value.
    """

    node_name: str
    outputs: Mapping[str, str]
    places: str
    pads: bool


def add_batch_function(
    graph: Any, graph_def: Any, name: str, signature: Signature, parameters: BatchingParameters
) -> BatchFunction:
    """Adds the op for one signature; its inputs are fed as before.

    Args:
        graph: the `tf.Graph` of the session.
        graph_def: what the graph was before any such op was added.
        name: of the signature.
        signature: with at least one input and one output.
        parameters: of the scheduler.
    Raises: `NotBatchable`.
    """
    import tensorflow as tf
    from tensorflow.python.framework import func_graph

    if not all(spec.tensor_name for spec in (*signature.inputs.values(), *signature.outputs.values())):
        raise NotBatchable("an input or output is no dense tensor")
    inputs = [graph.get_tensor_by_name(spec.tensor_name) for spec in signature.inputs.values()]
    outputs = [graph.get_tensor_by_name(spec.tensor_name) for spec in signature.outputs.values()]
    inside, handles = _between(inputs, outputs)
    body_def = _subgraph(graph_def, inside)
    pads = parameters.pad_variable_length_inputs
    ranks = [_rank_to_pad(spec.shape) if pads else 0 for spec in signature.inputs.values()]

    def body(*batched: Any) -> list[Any]:
        parts = iter(batched)
        arguments = [
            _padded(next(parts), next(parts), tensor.dtype, rank) if rank else next(parts)
            for tensor, rank in zip(inputs, ranks, strict=True)
        ]
        outer = tf.compat.v1.get_default_graph()
        known = {tensor.name: argument for tensor, argument in zip(inputs, arguments, strict=True)}
        known |= {tensor.name: outer.capture(tensor) for tensor in handles}
        computed = iter(
            tf.graph_util.import_graph_def(
                body_def,
                input_map=_used(known, body_def),
                return_elements=[tensor.name for tensor in outputs if tensor.name not in known],
                name="",
            )
        )
        results = [known[tensor.name] if tensor.name in known else next(computed) for tensor in outputs]
        num_rows = tf.shape(batched[0])[0]
        return [*results, tf.stack([tf.range(num_rows), tf.fill([num_rows], num_rows)], axis=1)]

    with graph.as_default():
        rows = [
            part
            for tensor, rank in zip(inputs, ranks, strict=True)
            for part in (_ragged_rows(tensor, rank) if rank else [tensor])
        ]
        specs = [tf.TensorSpec(None, part.dtype) for part in rows]  # as a fed tensor: of no known shape
        function = tf.function(body, autograph=False).get_concrete_function(*specs)
        op_name = graph.unique_name(f"batching/{name}", mark_as_used=False)
        batched = tf.raw_ops.BatchFunction(
            in_tensors=rows,
            captured_tensors=function.captured_inputs,
            f=function,
            Tout=[tensor.dtype for tensor in function.outputs],
            num_batch_threads=parameters.num_batch_threads,
            max_batch_size=parameters.max_batch_size,
            batch_timeout_micros=parameters.batch_timeout_micros,
            max_enqueued_batches=parameters.max_enqueued_batches,
            allowed_batch_sizes=_allowed_sizes(parameters),
            enable_large_batch_splitting=parameters.enable_large_batch_splitting,
            shared_name=op_name,
            name=op_name,
        )
    func_graph.dismantle_func_graph(function.graph)  # else its cycles keep it until Python's next full collection
    return BatchFunction(
        node_name=batched[0].op.name,
        outputs=dict(zip(signature.outputs, (tensor.name for tensor in batched[:-1]), strict=True)),
        places=batched[-1].name,
        pads=any(ranks),
    )


def _allowed_sizes(parameters: BatchingParameters) -> list[int]:
    """The op has no attribute for the largest batch after splitting; it takes the last allowed size."""
    if parameters.allowed_batch_sizes or not parameters.enable_large_batch_splitting:
        return list(parameters.allowed_batch_sizes)
    return list(range(1, parameters.execution_size + 1))


def _between(inputs: Sequence[Any], outputs: Sequence[Any]) -> tuple[set[str], list[Any]]:
    """Names of the nodes from inputs to outputs, and the tensors that enter from elsewhere: variables and tables."""
    import tensorflow as tf

    fed = {tensor.name for tensor in inputs}
    inside: set[str] = set()
    handles: dict[str, Any] = {}
    pending = [tensor for tensor in outputs if tensor.name not in fed]
    controls: list[Any] = []

    while pending or controls:
        op = controls.pop() if controls else _entered(pending.pop(), handles)
        if op is None or op.name in inside:
            continue
        if not op.inputs and any(output.dtype == tf.resource for output in op.outputs):
            handles.update((output.name, output) for output in op.outputs)
            continue
        if any(output.dtype._is_ref_dtype for output in op.outputs):
            raise NotBatchable(f"node {op.name} is a variable of TensorFlow 1 that is used by reference")
        inside.add(op.name)
        pending.extend(tensor for tensor in op.inputs if tensor.name not in fed)
        controls.extend(control for control in op.control_inputs if control.inputs or control.type == "NoOp")
    return inside, list(handles.values())


def _entered(tensor: Any, handles: dict[str, Any]) -> Any:
    """The op of a tensor, or None where the tensor itself enters from outside: the value that is read by reference."""
    op = tensor.op
    if op.type == "Identity" and op.inputs[0].dtype._is_ref_dtype:
        handles[tensor.name] = tensor
        return None
    return op


def _subgraph(graph_def: Any, inside: set[str]) -> Any:
    import tensorflow as tf

    part = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name not in inside:
            continue
        copy = part.node.add()
        copy.CopyFrom(node)
        copy.attr.pop("_class", None)  # colocation with a variable, which stays outside
        del copy.input[:]
        copy.input.extend(name for name in node.input if not name.startswith("^") or name[1:] in inside)
    return part


def _used(tensors: Mapping[str, Any], graph_def: Any) -> dict[str, Any]:
    """The tensors that some node reads; importing complains of any other."""
    read = {name if ":" in name else f"{name}:0" for node in graph_def.node for name in node.input}
    return {name: tensor for name, tensor in tensors.items() if name in read}


def _rank_to_pad(shape: tuple[int, ...] | None) -> int:
    """The rank of an input whose rows may differ in shape; 0 for others, and where the rank is unknown."""
    return len(shape) if shape is not None and len(shape) > 1 and -1 in shape[1:] else 0


def _ragged_rows(tensor: Any, rank: int) -> list[Any]:
    """Each row packed up with its shape, and the value to pad it with: the first of its request."""
    import tensorflow as tf

    tensor = tf.ensure_shape(tensor, [None] * rank)
    rows = tf.RaggedTensor.from_tensor(tensor, ragged_rank=rank - 1)._to_variant(batched_input=True)
    return [rows, tf.fill([tf.shape(tensor)[0]], tf.reshape(tensor, [-1])[0])]


def _padded(rows: Any, padding: Any, dtype: Any, rank: int) -> Any:
    """The rows of several requests, each padded to the longest in every dimension."""
    import tensorflow as tf

    ragged = tf.RaggedTensor._from_variant(rows, dtype, output_ragged_rank=rank - 1)
    is_given = ragged.with_flat_values(tf.ones_like(ragged.flat_values, tf.bool)).to_tensor()
    return tf.where(is_given, ragged.to_tensor(), tf.reshape(padding, [-1] + [1] * (rank - 1)))
