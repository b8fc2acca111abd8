"""The one fit loop: what every recipe sets, how a model is compiled for it, and how a run goes on after a stop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras

from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.schedules import InverseSquareRootDecay
from keras_seqattn.training.callbacks.checkpoints import Checkpoints, saved
from keras_seqattn.training.callbacks.progress import Progress
from keras_seqattn.training.callbacks.scalars import Scalars
from keras_seqattn.training.callbacks.seed_each_epoch import SeedEachEpoch
from keras_seqattn.training.run_folder import DONE, RunFolder

if TYPE_CHECKING:
    import tensorflow as tf


KEPT = ("loss", "val_loss", "val_{accuracy}", "averaged_val_loss")  # of the curves, in the final figures


@dataclass(frozen=True)
class FitSettings:
    """What every recipe sets about its training and its run."""

    epochs: int = 10
    """passes over the training part"""
    learning_rate: float = 2e-3
    """highest learning rate, reached after the warm-up"""
    warmup_steps: int = 400
    """steps in which the learning rate rises from zero"""
    schedule: Literal["cosine", "inverse_sqrt"] = "cosine"
    """how the learning rate falls then: by a cosine to a fiftieth, or as one over the square root of the steps"""
    adam_beta_2: float = 0.999
    """share that Adam keeps of its mean of squared gradients at each step"""
    clip_norm: float = 1.0
    """greatest norm of all gradients together; larger ones are scaled down to it"""
    weight_decay: float = 0.0
    """share of each kernel that a step takes away, times the learning rate"""
    average_checkpoints: int = 1
    """epochs at the end whose weights' mean is the trained model; 1 takes the last ones as they are"""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """what layers compute in; weights are float32 always"""
    xla: Literal["auto", "on", "off"] = "auto"
    """whether the training step is compiled by XLA; auto: on a GPU or TPU, and on a CPU where this recipe measured
    faster"""
    seed: int = 0
    """of weights, dropout, and the order of the data"""
    run_dir: str = ""
    """folder of the run; empty: runs/RECIPE"""
    resume: bool = False
    """whether to go on with the run in that folder"""

    recipe: ClassVar[str] = ""
    at_least: ClassVar[dict[str, int]] = {
        "epochs": 1,
        "warmup_steps": 0,
        "weight_decay": 0,
        "average_checkpoints": 1,
        "seed": 0,
    }
    xla_on_cpu: ClassVar[bool] = False  # what "auto" means on a CPU; a recipe that measured faster with XLA says True

    def __post_init__(self) -> None:
        """Refuses numbers out of range before anything is written."""
        for name, bound in self.at_least.items():
            value = getattr(self, name)
            if value < bound:
                raise ValueError(f"`{name}` must be at least {bound}. Received: {name}={value}.")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"`{name}` must be above 0. Received: {name}={value}.")

    def recorded(self) -> dict[str, Any]:
        """What config.json holds: the recipe and every setting that shapes its result."""
        settings = dataclasses.asdict(self)
        return {
            "recipe": self.recipe,
            **{name: settings[name] for name in settings if name not in ("run_dir", "resume")},
        }

    def use_xla(self) -> bool:
        """Whether the training step is compiled by XLA on this machine."""
        if self.xla != "auto":
            return self.xla == "on"
        import tensorflow as tf

        return self.xla_on_cpu or bool(tf.config.list_physical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def start(settings: FitSettings, data_fingerprint: str, console: Any) -> tuple[RunFolder, dict[str, Any] | None]:
    """The folder of a run that begins or goes on, all that is random seeded; and of a finished one also its figures.

    Raises: RunError.
    """
    keras.utils.set_random_seed(settings.seed)
    run = RunFolder.start(
        settings.run_dir or f"runs/{settings.recipe}",
        {**settings.recorded(), "data_fingerprint": data_fingerprint},
        settings.resume,
    )
    if not run.is_done:
        return run, None
    console.print(f"The run in {run.path} has finished; these are its figures.", highlight=False, soft_wrap=True)
    return run, run.read_json(DONE)


def compile_model(
    model: keras.Model,
    settings: FitSettings,
    steps: int,
    loss: keras.losses.Loss | None = None,
    accuracy: str = "token_accuracy",
) -> None:
    """Compiles a sequence model: Adam, warm-up and decay, clipped gradients, cross-entropy over tokens.

    Args:
        steps: of the whole training.
        loss: in place of the mean cross-entropy of the tokens.
        accuracy: name of the share of targets that are the likeliest by the logits.
    """
    optimizer = keras.optimizers.AdamW(
        learning_rate(settings, steps),
        weight_decay=settings.weight_decay,
        beta_2=settings.adam_beta_2,
        global_clipnorm=settings.clip_norm,
    )
    # Vectors, which are biases and norms, and embeddings keep what they learned.
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if not decays(v)])
    model.compile(
        optimizer=optimizer,
        loss=loss or SequenceCrossentropy(),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name=accuracy)],
        jit_compile=settings.use_xla(),
    )


def learning_rate(settings: FitSettings, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over `steps` training steps."""
    warmup = min(settings.warmup_steps, steps // 2)
    if settings.schedule == "inverse_sqrt":
        return InverseSquareRootDecay(settings.learning_rate, warmup)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=settings.learning_rate, warmup_steps=warmup
    )


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay acts on a variable: on kernels."""
    return len(variable.shape) > 1 and "embedding" not in variable.path


def fit(
    model: keras.Model,
    train: Callable[[int], tf.data.Dataset],
    steps: int,
    validation: tf.data.Dataset,
    settings: FitSettings,
    run: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    console: Any = None,
    loss: keras.losses.Loss | None = None,
    accuracy: str = "token_accuracy",
) -> dict[str, float]:
    """Trains `model`, or goes on from the run's newest checkpoint, and saves it in the run's folder.

    Args:
        train: gives the batches of all epochs from this one on, in an order that the seed and the epoch alone decide.
        steps: batches an epoch.
        validation: batches to watch the training by.
        callbacks: beside the progress bar, TensorBoard's scalars and the checkpoints.
        loss, accuracy: as for `compile_model`.
    Returns: figures of the training: `train_seconds` of this call, compilation included, `epochs`, `val_loss`, ...;
        after a resumption also `resumed_after_epochs`.
    """
    compile_model(model, settings, steps * settings.epochs, loss, accuracy)
    first_epoch = 0
    checkpoints = saved(run)
    if checkpoints:
        path, first_epoch = checkpoints[-1]
        take_over(model, path)
    began = time.monotonic()
    logs: dict[str, float] = {}
    if first_epoch < settings.epochs:
        history = model.fit(
            train(first_epoch),
            validation_data=validation,
            initial_epoch=first_epoch,
            epochs=settings.epochs,
            steps_per_epoch=steps,
            shuffle=False,  # the data set has an order of its own
            verbose=0,
            callbacks=[
                SeedEachEpoch(settings.seed),
                Progress(steps, console),
                Scalars(run.tensorboard, write_graph=False, update_freq=20),
                *callbacks,
                Checkpoints(run, keep=settings.average_checkpoints),
            ],
        )
        logs = {name: values[-1] for name, values in history.history.items()}
    if settings.average_checkpoints > 1:
        average(model, [path for path, _ in saved(run)])
        logs["averaged_val_loss"] = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
    kept = [name.format(accuracy=accuracy) for name in KEPT]
    return {
        "train_seconds": round(time.monotonic() - began, 1),
        "epochs": settings.epochs,
        **({"resumed_after_epochs": first_epoch} if first_epoch else {}),
        **{name: round(float(logs[name]), 5) for name in kept if name in logs},
    }


def average(model: keras.Model, paths: Sequence[Any]) -> None:
    """Gives `model` the mean of the weights of checkpoints, as Vaswani et al. 2017 (sec. 6.1) did."""
    sums: list[Any] = []
    for path in paths:
        model.load_weights(path)
        values = [variable.numpy().astype("float64") for variable in model.trainable_variables]
        sums = values if not sums else [a + b for a, b in zip(sums, values, strict=True)]
    for variable, total in zip(model.trainable_variables, sums, strict=True):
        variable.assign((total / len(paths)).astype(variable.dtype))


def take_over(model: keras.Model, path: Any) -> None:
    """Weights and optimizer of the checkpoint at `path`, for `model`, which is compiled alike."""
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
