"""States that begin anew where a series does."""

from __future__ import annotations

from typing import Any

import keras


class ResetStates(keras.callbacks.Callback):
    """Resets the carried state of every stateful layer where a series begins: at each epoch, and around validation.

    Validation, evaluation and prediction begin with zero states too. What a training had carried until then is put
    aside and comes back afterwards, so a validation in the middle of an epoch changes nothing. After the training, the
    states are zero. A layer takes part when it has `reset_state`: `Recurrent`, Keras's `RNN`, a layer of your own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.aside: list[tuple[keras.Variable, Any]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        reset_states(self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        reset_states(self.model)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        held = [variable for layer in with_state(self.model) for variable in held_by(layer)]
        self.aside = [(variable, keras.ops.convert_to_numpy(variable).copy()) for variable in held]
        reset_states(self.model)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        for variable, value in self.aside:
            variable.assign(value)
        self.aside = []

    on_predict_begin = on_test_begin
    on_predict_end = on_test_end


def reset_states(model: keras.Model) -> None:
    """Has every layer of `model`, however deep inside others, forget what it carried over."""
    for layer in with_state(model):
        layer.reset_state()


def with_state(model: keras.Model) -> list[Any]:
    """The layers of `model`, however deep inside others, that have `reset_state`."""
    return [layer for layer in model._flatten_layers(include_self=False) if hasattr(layer, "reset_state")]


def held_by(layer: Any) -> list[Any]:
    """The variables of a layer among which its state is; what else is there, validation leaves alone."""
    # Keras's RNN does not name its states among its variables.
    states = [state for state in keras.tree.flatten(getattr(layer, "states", None)) if state is not None]
    return [*layer.non_trainable_variables, *states]
