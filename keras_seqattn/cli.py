"""The command `seqattn`: train, evaluate, export, serve, ask."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

USAGE = """\
seqattn COMMAND [options]

  recipes                    what can be trained
  train RECIPE [options]     train a recipe; its run is kept in runs/RECIPE
  evaluate RUN [options]     figures of a finished run on its test part
  export RUN [options]       write saved_models/NAME/VERSION, strings in and strings out
  serve [options]            answer over REST, with tensorflow_model_server's own flags
  ask MODEL TEXT [options]   ask a server that runs
  demo                       all of it once: train on dates, look, export, serve, ask

seqattn COMMAND --help shows every setting with its default."""


class UsageError(Exception):
    """The command line is not understood: its text goes to standard error, and the exit status is 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 0, 1 when the work failed, 2 when the call was wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if arguments else 2
        name, *rest = arguments
        if name not in COMMANDS:
            raise UsageError(f"Unknown command: {name}. The commands are {', '.join(COMMANDS)}.")
        return COMMANDS[name](rest) or 0
    except UsageError as error:
        print(f"seqattn: {error}", file=sys.stderr)
        return 2
    except (ValueError, ImportError, OSError) as error:
        print(f"seqattn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("seqattn: interrupted", file=sys.stderr)
        return 130


def settings(kind: Any, arguments: Sequence[str], prog: str) -> Any:
    """An instance of the dataclass `kind` from a command line; `--help` lists every field with its default."""
    import tyro

    names = [field.name for field in fields(kind)]
    options = sorted("--" + name.replace("_", "-") for name in names)
    given = [argument.split("=")[0].replace("_", "-") for argument in arguments if argument.startswith("--")]
    known = {*options, *("--no-" + option[2:] for option in options), "--help"}
    unknown = [option for option in given if option not in known]
    if unknown:
        raise UsageError(f"{prog}: unknown setting {', '.join(unknown)}. The settings are {', '.join(options)}.")
    return tyro.cli(kind, args=list(arguments), prog=prog)


def recipes(arguments: Sequence[str]) -> None:
    """What can be trained, a line each."""
    if arguments and arguments != ["--help"]:
        raise UsageError(f"`recipes` takes nothing. Received: {' '.join(arguments)}.")
    from keras_seqattn.training.recipes import NAMES, load_recipe

    for name in NAMES:
        print(f"{name:22} {load_recipe(name).Config.__doc__}")


def train(arguments: Sequence[str]) -> None:
    """Trains a recipe and prints its figures."""
    recipe, options = first_word(arguments, "train RECIPE")
    from rich.console import Console

    from keras_seqattn.training.recipes import NAMES, config_of, load_recipe

    if recipe is None or recipe not in NAMES:
        if recipe is None and "--help" in options:
            print(f"seqattn train RECIPE [options]\n\nThe recipes are {', '.join(NAMES)}.")
            print("`--help` after one shows its settings.")
            return
        raise UsageError(f"Unknown recipe: {recipe}. The recipes are {', '.join(NAMES)}.")
    module = load_recipe(recipe)
    config = settings(config_of(module, option(options, "--model")), options, f"seqattn train {recipe}")
    print_figures(module.run(config, Console()))


@dataclass(frozen=True)
class Decoding:
    """How answers are searched for."""

    beam_width: int = 0
    """beams; 1 is greedy; 0 takes the run's own setting"""
    length_penalty: float = -1.0
    """exponent by which a beam's longer answers are favoured; below 0 takes the run's own setting"""


@dataclass(frozen=True)
class EvaluateSettings(Decoding):
    """How answers are searched for, and a server to compare with."""

    url: str = ""
    """a server that answers with an export of this run: its answers are compared with those of this process"""
    model: str = ""
    """name of the model on that server; empty: the recipe's"""
    num_served: int = 200
    """texts of the test part to compare by"""


def evaluate(arguments: Sequence[str]) -> None:
    """Figures of a finished run on its test part; or, with `--url`, how many answers a server gives alike."""
    folder, options = first_word(arguments, "evaluate RUN")
    given = settings(EvaluateSettings, options, "seqattn evaluate RUN")
    if folder is None:
        raise UsageError("`evaluate` takes the folder of a finished run, such as runs/dates.")
    from keras_seqattn.training.evaluate import answers
    from keras_seqattn.training.evaluate import evaluate as measure

    run, recipe, config = open_run(folder)
    if not answers_texts(recipe):
        if given != EvaluateSettings():
            raise ValueError(f"The settings of `evaluate` are for models that answer texts. Received: {config.recipe}.")
        print_figures(recipe.evaluate(run, config))
        return
    splits, scores = recipe.test_part(config)
    if not given.url:
        print_figures(measure(answering(run, config, given), splits.test, scores))
        return
    from keras_seqattn.serving import ask as ask_server

    texts = [source for source, _ in splits.test[: given.num_served]]
    here = answers(answering(run, config, given), texts)
    there = [found["answer"] for found in ask_server(given.url, given.model or config.recipe, texts)]
    equal = sum(a == b for a, b in zip(here, there, strict=True))
    print_figures({"texts": len(texts), "served_as_here": equal})


@dataclass(frozen=True)
class ExportSettings(Decoding):
    """Where to, and how answers are searched for."""

    name: str = ""
    """name of the model; empty: the recipe's"""
    to: str = "saved_models"
    """folder of all models"""
    xla: bool = False
    """compile the answer by XLA inside the export"""
    temperature: float = -1.0
    """language models: by which logits are divided; 0 takes the likeliest token, below 0 the run's own setting"""
    seed: int = -1
    """language models: the same prompts get the same text; below 0 a new one each time"""
    max_prompt_length: int = 0
    """language models: tokens that are read of a prompt; 0 takes half of the run's window"""
    max_length: int = 0
    """language models: tokens written at most; 0 takes the rest of the run's window"""


def export(arguments: Sequence[str]) -> None:
    """Writes the next version of a run's model."""
    folder, options = first_word(arguments, "export RUN")
    given = settings(ExportSettings, options, "seqattn export RUN")
    if folder is None:
        raise UsageError("`export` takes the folder of a finished run, such as runs/dates.")
    from pathlib import Path

    from keras_seqattn.serving.export.saved_model import export_text_generation, export_text_to_text

    run, recipe, config = open_run(folder)
    if not answers_texts(recipe) and not goes_on_from_texts(config):
        raise ValueError(
            "`export` writes models that answer texts, and language models that go on from a prompt, of which the "
            "recurrent ones have no `generate`; so this run has nothing to export yet. Train with `--model gpt`. "
            f"Received: {folder}, a run of {config.recipe}."
        )
    for_language_models = ("temperature", "seed", "max_prompt_length", "max_length")
    wrong = [name for name in for_language_models if getattr(given, name) != getattr(ExportSettings, name)]
    if answers_texts(recipe) and wrong:
        options = ", ".join("--" + name.replace("_", "-") for name in wrong)
        raise ValueError(
            f"The settings {options} are for language models. Received: {folder}, a run of {config.recipe}."
        )
    stored = run.read_json("config.json")
    metrics = run.read_json("metrics.json") if (run.path / "metrics.json").is_file() else {}
    name = given.name or stored["recipe"]
    card = {"recipe": stored["recipe"], "data_fingerprint": stored["data_fingerprint"], "metrics": metrics}
    to = Path(given.to) / name
    if goes_on_from_texts(config):
        print(export_text_generation(generation(run, config, given), to, card, ["", "The "], given.xla))
    else:
        texts = run.read_json("samples.json")["texts"]
        print(export_text_to_text(answering(run, config, given), to, card, texts, given.xla))


def open_run(folder: str) -> Any:
    """A finished run: its folder, its recipe, and its settings."""
    from keras_seqattn.training.recipes import config_of, load_recipe
    from keras_seqattn.training.run_folder import RunFolder

    run = RunFolder.open(folder)
    stored = run.read_json("config.json")
    recipe = load_recipe(stored["recipe"])
    kind = config_of(recipe, stored.get("model"))
    names = {field.name for field in fields(kind)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items() if name in names}
    return run, recipe, kind(**values)


def answers_texts(recipe: Any) -> bool:
    """Whether a recipe's models answer texts with texts; the others are evaluated in a way of their own."""
    return hasattr(recipe, "test_part")


def goes_on_from_texts(config: Any) -> bool:
    """Whether a run's model writes on from a prompt by `generate`."""
    return getattr(config, "model", None) == "gpt"


def generation(run: Any, config: Any, given: ExportSettings) -> Any:
    """The language model of a run as it goes on from texts; it chooses as `given`, else as in the run's samples."""
    import keras

    from keras_seqattn.decoding import Beam, Greedy, Sampling
    from keras_seqattn.text import TextGeneration, load_tokenizer

    temperature = config.temperature if given.temperature < 0 else given.temperature
    if given.beam_width > 1:
        decoder = Beam(given.beam_width, max(given.length_penalty, 0.0))
    elif given.beam_width == 1 or temperature == 0:
        decoder = Greedy()
    else:
        decoder = Sampling(temperature, seed=None if given.seed < 0 else given.seed)
    max_prompt_length = given.max_prompt_length or config.window // 2
    return TextGeneration(
        keras.saving.load_model(run.model, compile=False),
        load_tokenizer(run.tokenizer),
        max_prompt_length,
        given.max_length or max(config.window - max_prompt_length, 1),
        decoder,
        empty_prompt="\n",  # the run knows no start token, and its samples begin at a new line too
    )


def answering(run: Any, config: Any, given: Decoding) -> Any:
    """The model of a run as it answers texts; it searches as `given`, else as the run's settings say."""
    from keras_seqattn.training import text_to_text

    beam_width = given.beam_width or config.beam_width
    length_penalty = config.length_penalty if given.length_penalty < 0 else given.length_penalty
    return text_to_text.load(run, text_to_text.decoder(beam_width, length_penalty))


def serve(arguments: Sequence[str]) -> int:
    """Answers over REST until it is stopped."""
    from keras_seqattn.serving import parse_flags
    from keras_seqattn.serving import serve as run_server

    return run_server(parse_flags(arguments, prog="seqattn serve"))


@dataclass(frozen=True)
class AskSettings:
    """Which server, and what of it."""

    url: str = "http://localhost:8501"
    """where the server listens for REST"""
    signature_name: str = "serving_default"
    """`serving_attention` also tells what the answer was read from"""
    timeout_seconds: float = 30.0
    """longest wait for the answer"""


def ask(arguments: Sequence[str]) -> None:
    """Asks a server, and prints each answer; with its alignment when the signature gives one."""
    model, rest = first_word(arguments, "ask MODEL TEXT")
    texts = []
    while rest and not rest[0].startswith("--"):
        texts.append(rest.pop(0))
    given = settings(AskSettings, rest, "seqattn ask MODEL TEXT")
    if model is None or not texts:
        raise UsageError("`ask` takes the name of a model and a text, such as: seqattn ask dates '5 de marzo de 2021'")
    from keras_seqattn.serving import ServingError
    from keras_seqattn.serving import ask as ask_server

    try:
        found = ask_server(
            given.url, model, texts, signature_name=given.signature_name, timeout_seconds=given.timeout_seconds
        )
    except ServingError as error:
        raise ValueError(f"the server answered: {error}") from error
    for answer in found:
        print(answer.get("answer", answer.get("text", answer)))
        cuts = (
            ("source_truncated", "the text was cut"),
            ("answer_truncated", "the answer was cut"),
            ("prompt_truncated", "the beginning of the prompt was cut"),
        )
        for field, what in cuts:
            if answer.get(field):
                print(f"  ({what} to the model's greatest length)", file=sys.stderr)
        if "attention" in answer:
            from keras_seqattn.inspection import alignment_text

            print(alignment_text(answer["source_tokens"], answer["answer_tokens"], answer["attention"]))


def demo(arguments: Sequence[str]) -> None:
    """The whole path once, on dates in many languages."""
    if arguments:
        print(
            "seqattn demo\n\nTrains the recipe dates, shows alignments, exports, serves and asks. It has no settings."
        )
        if list(arguments) != ["--help"]:
            raise UsageError(f"`demo` takes nothing. Received: {' '.join(arguments)}.")
        return
    from keras_seqattn.demo import run

    run()


def first_word(arguments: Sequence[str], usage: str) -> tuple[str | None, list[str]]:
    """The word after the command, and the options that follow; None where an option or nothing stands there."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    if not arguments:
        raise UsageError(f"Usage: seqattn {usage} [options]")
    return None, list(arguments)


def option(arguments: Sequence[str], name: str) -> str | None:
    """What the last `name VALUE` or `name=VALUE` says, or None."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument == name:
            found = following
        elif argument.startswith(f"{name}="):
            found = argument.removeprefix(f"{name}=")
    return found


def print_figures(figures: dict[str, Any]) -> None:
    """Figures, a line each."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {value}")


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "recipes": recipes,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "serve": serve,
    "ask": ask,
    "demo": demo,
}
