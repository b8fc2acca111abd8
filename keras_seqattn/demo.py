"""The whole path once: train on dates in many languages, look at the alignments, export, serve, ask over REST."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

RUN, MODEL = "runs/dates", "saved_models/dates"
QUESTIONS = (
    "viernes, 5 de marzo de 2021",
    "5. März 2021",
    "пятница, 5 марта 2021 г.",
    "2021年3月5日(金)",
    "٥ مارس ٢٠٢١",
    "March 5th, 2021",
)


def run() -> None:
    """Does it all, and says at each step what the next command would be by hand."""
    console, began = Console(highlight=False), time.monotonic()

    say(console, "1  Train: seqattn train dates")
    train(console)
    say(console, "2  Look: what each digit of the answer read")
    answering = open_run()
    look(console, answering)
    say(console, f"3  Export: seqattn export {RUN}")
    version = export(answering)
    console.print(f"{version}, signatures serving_default and serving_attention, strings in and strings out")
    say(console, f"4  Serve: seqattn serve --model_name=dates --model_base_path=$PWD/{MODEL}")
    ask(console)
    console.print(
        f"\n[bold]Done in {time.monotonic() - began:.0f} s.[/bold] Curves, answers and alignments of every epoch: "
        f"tensorboard --logdir {RUN}/tensorboard"
    )


def say(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def train(console: Console) -> None:
    """Trains the recipe; a finished run is taken as it is."""
    from keras_seqattn.training.recipes import dates

    if Path(RUN).exists():
        console.print(f"{RUN} exists, so the demo goes on with it. Remove it to train anew.")
    figures = dates.run(dates.Config(resume=True), console)
    by_locale = {name[12:]: value for name, value in figures.items() if name.startswith("exact_match_")}
    console.print(
        f"exact match {figures['exact_match']:.2%} on {figures['test_pairs']:,} dates of days that were held out, in "
        f"{len(by_locale)} locales: " + ", ".join(f"{name} {value:.0%}" for name, value in by_locale.items())
    )
    console.print(f"trained in {figures['train_seconds']:.0f} s", style="dim")


def open_run() -> Any:
    """The trained model, as it answers texts."""
    from keras_seqattn.training import text_to_text
    from keras_seqattn.training.run_folder import RunFolder

    return text_to_text.load(RunFolder.open(RUN), text_to_text.decoder(1, 0.0))


def look(console: Console, answering: Any) -> None:
    """An alignment in the terminal, and pictures in the run's folder."""
    from keras_seqattn.inspection import alignment_text
    from keras_seqattn.training.callbacks.alignments import draw
    from keras_seqattn.training.callbacks.summaries import as_png

    found = {name: value.numpy() for name, value in answering(QUESTIONS[:1]).items()}
    tokens = ([token.decode() for token in found[name][0]] for name in ("source_tokens", "answer_tokens"))
    console.print(alignment_text(*tokens, found["attention"][0]), markup=False)
    for index, figure in enumerate(draw(answering, QUESTIONS)):
        (Path(RUN) / f"alignment-{index}.png").write_bytes(as_png(figure))
    console.print(f"pictures: {RUN}/alignment-0.png to alignment-{len(QUESTIONS) - 1}.png")


def export(answering: Any) -> Path:
    """The next version in saved_models/dates."""
    from keras_seqattn.serving.export.saved_model import export_text_to_text
    from keras_seqattn.training.run_folder import RunFolder

    stored = RunFolder(RUN)
    card = {"recipe": "dates", "metrics": stored.read_json("metrics.json")}
    return export_text_to_text(answering, MODEL, card, QUESTIONS)


def ask(console: Console) -> None:
    """Starts a server on a free port and asks it, as any HTTP client would."""
    import httpx

    from keras_seqattn.serving import EmbeddedServer

    with EmbeddedServer({"dates": Path(MODEL).resolve()}, port=0) as server:
        url = f"{server.url}/v1/models/dates:predict"
        body = json.dumps({"instances": QUESTIONS}, ensure_ascii=False)
        console.print(f"curl -d '{body}' {url}", soft_wrap=True, markup=False)
        answer = httpx.post(url, content=body.encode("utf-8"), timeout=60.0, trust_env=False)
        answer.raise_for_status()
        for question, prediction in zip(QUESTIONS, answer.json()["predictions"], strict=True):
            console.print(f"  {question}  →  {prediction['answer']}", markup=False)
