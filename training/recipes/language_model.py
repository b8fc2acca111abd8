"""A language model of any text:  seqattn train language_model --data TEXT

A recurrent one of characters, or with `--model gpt` a transformer of characters or byte pairs. Data: any text file,
plain or .gz; without any, tiny Shakespeare.

Measured: `seqattn train language_model --data tiny_shakespeare`, 10 epochs: 2.290 bits a character on the test part
(perplexity 4.89), 2.116 on the validation part, after 2,460 steps; 22.6 min on one thread of an AMD EPYC, shared
with other work (a shorter run, less disturbed: 36 s an epoch); seed 0, 2026-11-21.
`seqattn train language_model --model gpt --precision mixed_bfloat16`, 10 epochs, 4.8 million weights: 1.403 nats a
character on the validation part, 1.566 on the test part; 42 min on 2 cores of an Intel Xeon with AMX, other work on the
machine for a third of the time; seed 0, 2026-11-21.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from rich.console import Console

from keras_seqattn.training import gpt_language_model, recurrent_language_model
from keras_seqattn.training.data import load_text
from keras_seqattn.training.run_folder import RunFolder

Config = recurrent_language_model.Config
MODELS = {"rnn": Config, "gpt": gpt_language_model.Config}


def module_of(config: Any) -> ModuleType:
    """Where the model of these settings is trained and measured."""
    return gpt_language_model if isinstance(config, gpt_language_model.Config) else recurrent_language_model


def run(config: Any, console: Console) -> dict[str, Any]:
    """Trains, evaluates, and returns the figures, bits per character among them."""
    return module_of(config).train(config, load_text(config.data or None), console)


def evaluate(run: RunFolder, config: Any) -> dict[str, Any]:
    """The figures of a finished run.

    Raises: ValueError when the text is no longer the one that the run was trained on.
    """
    parts = load_text(config.data or None)
    known = run.read_json("config.json")["data_fingerprint"]
    if parts.fingerprint != known:
        raise ValueError(
            "A run is evaluated on the end of the text that it was trained on. "
            f"Received: a text of fingerprint {parts.fingerprint[:8]}, for a run on {known[:8]}."
        )
    return module_of(config).evaluate(run, config, parts)
