"""A training step of the recipes `dates` and `translate` with XLA and without: what `xla` should mean on a CPU."""

import keras
import numpy as np

from benchmarks.timing import interleaved, table
from keras_seqattn.losses import SequenceCrossentropy
from keras_seqattn.models import Seq2Seq
from keras_seqattn.training.fit import FitSettings, compile_model

SIZES = {  # of a bucket in the middle
    "dates": {"batch": 64, "length": 24, "answer": 11, "source": 350, "target": 15, "units": 128, "embedding_dim": 64},
    "translate": {
        "batch": 128, "length": 12, "answer": 12, "source": 6000, "target": 6000, "units": 256, "embedding_dim": 256,
        "dropout": 0.3,
    },
}  # fmt: skip


def step(batch, length, answer, source, target, xla, **settings):
    """A function that trains one step."""
    rng = np.random.default_rng(0)
    model = Seq2Seq(source, target, **settings)
    compile_model(model, FitSettings(xla=xla), 1000, SequenceCrossentropy(label_smoothing=0.1))
    inputs = {"source": rng.integers(4, source, (batch, length)), "target": rng.integers(4, target, (batch, answer))}
    wanted, weights = rng.integers(4, target, (batch, answer)), np.ones((batch, answer), "float32")
    return lambda: model.train_on_batch(inputs, wanted, weights)


def main():
    for recipe, sizes in SIZES.items():
        keras.utils.set_random_seed(0)
        ways = {
            f"{feeding}, XLA {xla}": step(**sizes, xla=xla, input_feeding=feeding == "input feeding")
            for feeding in ("input feeding", "no input feeding")
            for xla in ("off", "on")
        }
        table(f"Training step of `{recipe}`", interleaved(ways, turns=7))


if __name__ == "__main__":
    main()
