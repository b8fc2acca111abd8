"""What a token costs while GPT writes, after short and long prompts; and a whole GPT-2, against Hugging Face's.

One graph call reads the prompt and writes the tokens. What a token costs is the difference of two such calls, of many
tokens and of one, over the tokens that they differ by: the prompt's reading drops out.
`--gpt2` writes 64 tokens after 32 with GPT-2 small, random weights, beside transformers on PyTorch.
"""

import sys

import numpy as np
import tensorflow as tf

from benchmarks.timing import interleaved, table
from keras_seqattn.models import GPT

PROMPTS, TOKENS = (100, 1000), 32


def written(model, batch, length, tokens):
    """A function that reads `length` tokens and writes `tokens` greedily, compiled into one graph."""
    prompt = tf.constant(np.random.default_rng(0).integers(0, model.vocabulary_size, (batch, length)).astype("int32"))
    call = tf.function(lambda ids: model.generate(ids, tokens).ids, autograph=False)
    return lambda: call(prompt).numpy()


def by_context(batch):
    """What a token costs after prompts of each length."""
    model = GPT(8000, 2048, model_dim=512, num_layers=6, num_heads=8, positions="rotary")
    ways = {(length, tokens): written(model, batch, length, tokens) for length in PROMPTS for tokens in (1, 1 + TOKENS)}
    seconds = interleaved(ways)
    each = {f"after {n} tokens": (seconds[n, 1 + TOKENS] - seconds[n, 1]) / TOKENS for n in PROMPTS}
    table(f"A token of a GPT of 6 layers, D=512, 8 heads, batch {batch}, by what stands before it", each)


def gpt2(batch, length=32, tokens=64):
    """GPT-2 small, ours and Hugging Face's with a cache that grows, as `generate` has it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = written(GPT.from_preset("gpt2-small"), batch, length, tokens)
    theirs = GPT2LMHeadModel(GPT2Config()).eval()
    ids = torch.randint(0, 50257, (batch, length))
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 50256}

    def generate():
        with torch.inference_mode():
            theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)

    ways = {"keras_seqattn, without XLA": ours, "transformers on PyTorch": generate}
    table(f"GPT-2 small writes {tokens} tokens after {length}, batch {batch}", interleaved(ways, turns=3))


def main(*options):
    for batch in (1, 8):
        by_context(batch)
        if "--gpt2" in options:
            gpt2(batch)


if __name__ == "__main__":
    main(*sys.argv[1:])
