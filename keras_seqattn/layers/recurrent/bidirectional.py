"""Reading a sequence in both directions."""

import keras
from keras import ops, tree

from keras_seqattn.layers.nesting import revive, serialize
from keras_seqattn.layers.output_spec import in_compute_dtype
from keras_seqattn.layers.recurrent.cell import zero_state
from keras_seqattn.layers.recurrent.recurrent import Recurrent

MERGE = {
    "concat": lambda f, b: ops.concatenate([f, b], axis=-1),
    "sum": lambda f, b: f + b,
    "ave": lambda f, b: (f + b) / 2,
    "mul": lambda f, b: f * b,
}


@keras.saving.register_keras_serializable(package="keras_seqattn")
class Bidirectional(keras.layers.Layer):
    """A `Recurrent` layer and its twin that reads backwards; each output knows the steps on both sides.

        output_t = merge(forward_t, backward_t)        backward_t has read steps T-1 .. t

    Args:
        layer: a `Recurrent`, the forward one.
        backward_layer: a `Recurrent` with `go_backwards=True`; None makes one with the same settings.
        merge_mode: "concat", "sum", "ave", "mul", or None for both outputs apart.
    Call arguments: as `Recurrent`; `initial_state` holds the forward states, then the backward ones.
    Returns: the merged output (both outputs when `merge_mode` is None); then the forward states and the backward states
        with `return_state`; then one trace with names `forward/...` and `backward/...` with `return_trace`. Sequences
        and traces stand in the order of the inputs.
    Raises: ValueError when a layer is no `Recurrent`, the two directions or flags do not fit, or the mode is unknown.
    Reference: Schuster and Paliwal 1997, Bidirectional Recurrent Neural Networks.
    Example:
        >>> recurrent = keras_seqattn.layers.Recurrent(keras_seqattn.layers.GRUCell(13), return_sequences=True)
        >>> tuple(Bidirectional(recurrent)(ops.ones((2, 5, 7))).shape)
        (2, 5, 26)
    """

    def __init__(self, layer, backward_layer=None, merge_mode="concat", **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, Recurrent) or not isinstance(backward_layer, Recurrent | None):
            raise ValueError(
                "`layer` and `backward_layer` must be `Recurrent` layers. "
                f"Received: layer={layer!r}, backward_layer={backward_layer!r}."
            )
        if merge_mode is not None and merge_mode not in MERGE:
            raise ValueError(f"`merge_mode` must be one of {sorted(MERGE)} or None. Received: {merge_mode=}.")
        if backward_layer is None:
            config = layer.get_config()
            config.update(name=f"backward_{layer.name}", go_backwards=not layer.go_backwards)
            backward_layer = Recurrent.from_config(config)
        flags = ("return_sequences", "return_state", "return_trace", "stateful", "zero_output_for_mask")
        differing = [flag for flag in flags if getattr(layer, flag) != getattr(backward_layer, flag)]
        if differing or layer.go_backwards or not backward_layer.go_backwards:
            raise ValueError(
                "`layer` must read forwards and `backward_layer` backwards, with the same flags. Received: "
                f"go_backwards={layer.go_backwards} and {backward_layer.go_backwards}, {differing=}."
            )
        self.layer = layer
        self.backward_layer = backward_layer
        self.merge_mode = merge_mode
        self.supports_masking = True

    def build(self, inputs_shape, memory_shape=None):
        for layer in (self.layer, self.backward_layer):
            if not layer.built:
                layer.build(inputs_shape, memory_shape)
                layer.built = True

    def call(self, inputs, initial_state=None, mask=None, memory=None, memory_mask=None, training=False):
        forward_state = backward_state = None
        if initial_state is not None:
            flat, forward_count = tree.flatten(initial_state), len(tree.flatten(zero_state(self.layer.cell, 1)))
            forward_state, backward_state = flat[:forward_count], flat[forward_count:]
        kwargs = {"mask": mask, "memory": memory, "memory_mask": memory_mask, "training": training}
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        forward = self._apart(self.layer(inputs, initial_state=forward_state, **kwargs))
        backward = self._apart(self.backward_layer(inputs, initial_state=backward_state, **kwargs), flip=True)

        if self.merge_mode is None:
            results = [forward["output"], backward["output"]]
        else:
            results = [MERGE[self.merge_mode](forward["output"], backward["output"])]
        results += forward["states"] + backward["states"]
        if self.layer.return_trace:
            results.append(
                {
                    f"{d}/{k}": v
                    for d, r in (("forward", forward), ("backward", backward))
                    for k, v in r["trace"].items()
                }
            )
        return results[0] if len(results) == 1 else tuple(results)

    def _apart(self, results, flip=False):
        """The results of one direction by name, in the order of the inputs."""
        results = list(results) if isinstance(results, list | tuple) else [results]
        trace = results.pop() if self.layer.return_trace else {}
        output, *states = results
        if flip and self.layer.return_sequences:
            output = ops.flip(output, axis=1)
        if flip:
            trace = tree.map_structure(lambda x: ops.flip(x, axis=1), trace)
        return {"output": output, "states": states, "trace": trace}

    def compute_output_spec(self, *args, **kwargs):
        return in_compute_dtype(self, super().compute_output_spec(*args, **kwargs))

    def compute_mask(self, inputs, mask=None):
        mask = self.layer.compute_mask(inputs, mask)
        if self.merge_mode is not None or mask is None:
            return mask
        return [mask[0], mask[0]] if isinstance(mask, list) else [mask, mask]

    def reset_state(self):
        """Forgets what `stateful` layers carried over."""
        self.layer.reset_state()
        self.backward_layer.reset_state()

    def get_config(self):
        return {
            **super().get_config(),
            "layer": serialize(self.layer),
            "backward_layer": serialize(self.backward_layer),
            "merge_mode": self.merge_mode,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**revive(config, "layer", "backward_layer"))
