"""`Recurrent` against keras.layers.LSTM and GRU, with XLA and without, and against torch.nn.LSTM and GRU.

Forward and training step (forward, and gradients of all weights) of one layer that returns every step.
`python -m benchmarks.recurrent 400 gru` runs one length and one cell.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks.timing import interleaved, table
from keras_seqattn.layers import GRUCell, LSTMCell, Recurrent

BATCH, WIDTH, UNITS = 64, 256, 256
OURS = {"lstm": LSTMCell, "gru": GRUCell}
KERAS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
TORCH = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def tensorflow_ways(layer, inputs, jit_compile):
    """Forward and training step of a Keras layer, as functions without arguments."""
    inputs = tf.constant(inputs)
    layer(inputs)
    variables = [variable.value for variable in layer.trainable_variables]
    forward = tf.function(lambda x: layer(x), jit_compile=jit_compile)

    @tf.function(jit_compile=jit_compile)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(x, training=True)))
        return tape.gradient(loss, variables)

    return lambda: forward(inputs).numpy(), lambda: [gradient.numpy() for gradient in step(inputs)]


def torch_ways(layer, inputs):
    """The same of a layer of PyTorch's."""
    inputs = torch.from_numpy(inputs)

    def forward():
        with torch.no_grad():
            layer(inputs)

    def step():
        layer.zero_grad()
        outputs, _ = layer(inputs)
        outputs.square().sum().backward()

    return forward, step


def compare(kind, length):
    """Prints one table for forward and one for the training step."""
    inputs = np.random.default_rng(0).normal(size=(BATCH, length, WIDTH)).astype("float32")
    ways = {}
    for jit_compile in (False, True):
        xla = "with XLA" if jit_compile else "without XLA"
        ways[f"Recurrent({OURS[kind].__name__}), {xla}"] = tensorflow_ways(
            Recurrent(OURS[kind](UNITS), return_sequences=True), inputs, jit_compile
        )
        ways[f"keras.layers.{kind.upper()}, {xla}"] = tensorflow_ways(
            KERAS[kind](UNITS, return_sequences=True), inputs, jit_compile
        )
    ways[f"torch.nn.{kind.upper()}"] = torch_ways(TORCH[kind](WIDTH, UNITS, batch_first=True), inputs)
    for index, what in enumerate(("forward", "training step")):
        seconds = interleaved({name: pair[index] for name, pair in ways.items()}, turns=5)
        table(f"{kind.upper()} {what}, B={BATCH} T={length} D=U={UNITS}", seconds)


def main(*only):
    lengths = [int(word) for word in only if word.isdigit()] or [100, 400]
    for kind in [word for word in only if word in OURS] or OURS:
        for length in lengths:
            compare(kind, length)


if __name__ == "__main__":
    main(*sys.argv[1:])
