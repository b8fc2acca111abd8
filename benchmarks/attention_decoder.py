"""A training step of a decoder with Bahdanau attention, against a loop in PyTorch, eager and compiled.

Both: embedded words (B, T, U) into a GRU of U units that reads the encoded source (B, S, U) by additive attention
before each step, logits over the vocabulary from its output, cross-entropy, gradients of all weights and of the source.
The keys are projected once, and the logits computed after the loop.
`--uncompiled` leaves out torch.compile, which takes minutes.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks.timing import interleaved, table
from keras_seqattn.layers import AttentionCell, BahdanauAttention, GRUCell, Recurrent
from keras_seqattn.losses import SequenceCrossentropy

BATCH, SOURCE, TARGET, UNITS, VOCABULARY = 64, 50, 50, 256, 8000


class TorchDecoder(torch.nn.Module):
    """The decoder as one writes it in PyTorch."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, UNITS)
        self.query_kernel = torch.nn.Linear(UNITS, UNITS, bias=False)
        self.key_kernel = torch.nn.Linear(UNITS, UNITS, bias=False)
        self.energy = torch.nn.Linear(UNITS, 1, bias=False)
        self.cell = torch.nn.GRUCell(2 * UNITS, UNITS)
        self.output = torch.nn.Linear(UNITS, VOCABULARY)

    def step(self, x, state, keys, memory):
        logits = self.energy(torch.tanh(self.query_kernel(state)[:, None] + keys))  # (B, S, 1)
        context = torch.bmm(torch.softmax(logits, dim=1).transpose(1, 2), memory)[:, 0]  # (B, U)
        return self.cell(torch.cat([x, context], dim=1), state)

    def forward(self, ids, memory, step):
        words, keys = self.embedding(ids), self.key_kernel(memory)
        state, outputs = memory.new_zeros(len(ids), UNITS), []
        for t in range(ids.shape[1]):
            state = step(words[:, t], state, keys, memory)
            outputs.append(state)
        return self.output(torch.stack(outputs, dim=1))


def torch_step(ids, memory, compiled):
    decoder = TorchDecoder()
    step = torch.compile(decoder.step) if compiled else decoder.step
    ids, memory = torch.from_numpy(ids), torch.from_numpy(memory).requires_grad_(True)

    def train():
        decoder.zero_grad()
        memory.grad = None
        logits = decoder(ids, memory, step)
        torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), ids.reshape(-1)).backward()

    return train


class Decoder(keras.Model):
    """The same of our layers."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(VOCABULARY, UNITS)
        cell = AttentionCell(GRUCell(UNITS), BahdanauAttention(UNITS), attend="before", input_feeding=False)
        self.recurrent = Recurrent(cell, return_sequences=True)
        self.projection = keras.layers.Dense(VOCABULARY)

    def call(self, ids, memory, training=False):
        vectors = self.recurrent(self.embedding(ids), memory=memory, training=training)
        return self.projection(vectors[..., -UNITS:])  # of [context; output], the output


def our_step(ids, memory, jit_compile):
    decoder, loss = Decoder(), SequenceCrossentropy()
    ids, memory = tf.constant(ids), tf.constant(memory)
    decoder(ids, memory)
    variables = [variable.value for variable in decoder.trainable_variables]

    @tf.function(jit_compile=jit_compile)
    def train(ids, memory):
        with tf.GradientTape() as tape:
            tape.watch(memory)
            value = loss(ids, decoder(ids, memory, training=True))
        return tape.gradient(value, [memory, *variables])

    return lambda: [tf.convert_to_tensor(gradient).numpy() for gradient in train(ids, memory)]


def main(*options):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCABULARY, (BATCH, TARGET))
    memory = rng.normal(size=(BATCH, SOURCE, UNITS)).astype("float32")
    ways = {
        "keras_seqattn, without XLA": our_step(ids.astype("int32"), memory, jit_compile=False),
        "keras_seqattn, with XLA": our_step(ids.astype("int32"), memory, jit_compile=True),
        "PyTorch loop": torch_step(ids, memory, compiled=False),
    }
    if "--uncompiled" not in options:
        ways["PyTorch loop, compiled step"] = torch_step(ids, memory, compiled=True)
    sizes = f"B={BATCH} S={SOURCE} T={TARGET} U={UNITS} vocabulary {VOCABULARY}"
    table(f"Training step of a GRU decoder with Bahdanau attention, {sizes}", interleaved(ways, turns=5))


if __name__ == "__main__":
    main(*sys.argv[1:])
