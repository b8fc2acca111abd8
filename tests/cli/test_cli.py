"""The command line: what it explains, what it refuses, and what its commands print; called in this process."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from keras_seqattn import cli
from keras_seqattn.cli import main
from keras_seqattn.serving import EmbeddedServer
from keras_seqattn.training.recipes import NAMES, load_recipe

pytestmark = pytest.mark.tensorflow_only


def run(capsys, *arguments):
    """Exit status, standard output, standard error."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code or 0
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_without_a_command_it_says_what_there_is(capsys):
    for arguments, status in (((), 2), (("--help",), 0), (("-h",), 0)):
        found, out, _ = run(capsys, *arguments)
        assert found == status
        for command in cli.COMMANDS:
            assert re.search(rf"^  {command} ", out + " ", re.MULTILINE), command


def test_an_unknown_command_names_the_known_ones(capsys):
    status, _, err = run(capsys, "tarin")
    assert status == 2
    assert err == f"seqattn: Unknown command: tarin. The commands are {', '.join(cli.COMMANDS)}.\n"


def test_an_unknown_recipe_names_the_known_ones(capsys):
    status, _, err = run(capsys, "train", "poems")
    assert status == 2
    assert err == f"seqattn: Unknown recipe: poems. The recipes are {', '.join(NAMES)}.\n"
    status, _, err = run(capsys, "train", "--units", "3")
    assert status == 2
    assert f"The recipes are {', '.join(NAMES)}." in err


def test_recipes_has_a_line_for_each(capsys):
    status, out, _ = run(capsys, "recipes")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(NAMES)
    for name, line in zip(NAMES, out.splitlines(), strict=True):
        assert line.endswith(load_recipe(name).Config.__doc__)
    assert run(capsys, "recipes", "--help")[0] == 0
    assert run(capsys, "recipes", "dates")[0] == 2


SETTINGS = {
    **{("train", name): load_recipe(name).Config for name in NAMES},
    ("evaluate",): cli.EvaluateSettings,
    ("export",): cli.ExportSettings,
    ("ask",): cli.AskSettings,
}


def shown(value):
    """A default as `--help` writes it."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else "''" if value == "" else str(value)


@pytest.mark.parametrize("command", SETTINGS, ids=" ".join)
def test_help_shows_every_setting_with_what_it_means_and_its_default(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    status, out, _ = run(capsys, *command, "--help")
    assert status == 0
    lines = [line.strip("│ ") for line in out.splitlines()]
    for field in dataclasses.fields(SETTINGS[command]):
        option = "--" + field.name.replace("_", "-")
        (found,) = (index for index, line in enumerate(lines) if re.match(rf"{option}[ ,]", line + " "))
        text = " ".join(lines[found : found + 3])
        meaning, _, rest = text.removeprefix(option).partition("(default: ")
        assert len(meaning.split()) >= 3, option
        assert rest.startswith(shown(field.default) + ")"), option


@pytest.mark.parametrize("command", ["train", "recipes", "demo", "serve"])
def test_help_of_the_other_commands_explains_them(command, capsys):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert command in out or "dates" in out


@pytest.mark.parametrize("command", SETTINGS, ids=" ".join)
def test_an_unknown_setting_names_the_known_ones(command, capsys):
    words = {"evaluate": ["runs/x"], "export": ["runs/x"], "ask": ["dates", "a text"]}.get(command[0], [])
    for arguments in (["--untis", "3"], ["--untis=3"]):
        status, _, err = run(capsys, *command, *words, *arguments)
        assert status == 2
        assert "unknown setting --untis. The settings are " in err
        for field in dataclasses.fields(SETTINGS[command]):
            assert "--" + field.name.replace("_", "-") in err


def test_an_unknown_flag_of_the_server_names_the_known_ones(capsys):
    status, _, err = run(capsys, "serve", "--modle_name=x")
    assert status == 2
    assert "--modle_name" in err
    assert "--model_name" in err
    assert "--rest_api_port" in err


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("--clip-norm", "-1", "`clip_norm` must be above 0"),
        ("--epochs", "0", "`epochs` must be at least 1"),
        ("--num-test", "0", "`num_test` must be at least 1"),
        ("--epochs", "many", "many"),
        ("--cell", "rnn", "lstm"),
        ("--xla", "maybe", "auto"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_written(setting, value, rule, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "train", "dates", setting, value)
    assert status == 2
    assert rule in out + err
    assert not list(tmp_path.iterdir())


def test_underscores_and_equal_signs_are_taken_as_well(capsys):
    recipe = load_recipe("dates").Config
    for words in (["--num_train", "7"], ["--num-train=7"], ["--num_train=7"]):
        assert cli.settings(recipe, words, "train").num_train == 7
    config = cli.settings(recipe, ["--bucket-boundaries", "3", "5", "--no-input-feeding", "--resume"], "train")
    assert (config.bucket_boundaries, config.input_feeding, config.resume) == ((3, 5), False, True)


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_a_folder_without_a_run_is_an_error_in_one_line(command, capsys, tmp_path):
    status, _, err = run(capsys, command, str(tmp_path / "nowhere"))
    assert status == 1
    assert err == f"seqattn: A run folder holds config.json. Received: {tmp_path / 'nowhere'}, which has none.\n"
    assert run(capsys, command)[0] == 2
    assert run(capsys, command, "--beam-width", "3")[0] == 2


@pytest.mark.parametrize("error", [ValueError("a reason"), ImportError("a reason"), OSError("a reason")])
def test_a_failure_is_one_line_and_status_one(error, capsys, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setitem(cli.COMMANDS, "recipes", fail)
    assert run(capsys, "recipes") == (1, "", "seqattn: a reason\n")


def test_an_interruption_is_said_and_has_the_shells_status(capsys, monkeypatch):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "recipes", interrupt)
    assert run(capsys, "recipes") == (130, "", "seqattn: interrupted\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\nc\td\te\n", r"2 columns\. Received: .*pairs\.tsv, line 2 with 3"),
        (b"a\tb\nalone\n", r"2 columns\. Received: .*pairs\.tsv, line 2 with 1"),
        (b"a\tb\n\t\n", r"must not be empty\. Received: .*pairs\.tsv, line 2, column 1"),
        (b"a\tb\ncaf\xe9\td\n", r"must be UTF-8\. Received: .*pairs\.tsv, line 2, byte 4 of the line is 0xe9"),
        (b"", r"at least one line\. Received: .*pairs\.tsv, which is empty"),
        (b"a\tb\n", r"at least one pair\. Received: .*pairs\.tsv, whose \w+ has none"),
        (None, r"must name a file or folder that exists\. Received: .*pairs\.tsv"),
    ],
    ids=["three columns", "one column", "blank", "not UTF-8", "empty file", "too few lines", "no file"],
)
def test_malformed_data_are_told_with_file_and_line(content, message, capsys, tmp_path):
    data = tmp_path / "pairs.tsv"
    if content is not None:
        data.write_bytes(content)
    status, _, err = run(capsys, "train", "translate", "--data", str(data), "--run-dir", str(tmp_path / "run"))
    assert status == 1
    assert re.search(message, err)
    assert err.startswith("seqattn: ")
    assert err.count("\n") == 1  # no traceback
    assert not (tmp_path / "run").exists()


def figures(out):
    """What `print_figures` printed, as a dict of strings."""
    return dict(line.split(maxsplit=1) for line in out.splitlines())


@pytest.mark.slow
def test_evaluate_prints_the_figures_that_the_run_ended_with(dates_run, capsys):
    status, out, _ = run(capsys, "evaluate", str(dates_run))
    assert status == 0
    metrics = json.loads((dates_run / "metrics.json").read_text())
    assert figures(out) == {name: str(metrics[name]) for name in figures(out)}
    assert {"test_pairs", "exact_match", "exact_match_ja"} <= figures(out).keys()


@pytest.mark.slow
def test_evaluate_takes_the_runs_own_beams_unless_told_otherwise(translate_run, capsys):
    metrics = json.loads((translate_run / "metrics.json").read_text())
    status, out, _ = run(capsys, "evaluate", str(translate_run))
    assert status == 0
    assert figures(out)["sacrebleu"] == str(metrics["sacrebleu"])
    assert figures(out)["sacrebleu_signature"] == metrics["sacrebleu_signature"]
    assert run(capsys, "evaluate", str(translate_run), "--beam-width", "1")[0] == 0
    status, _, err = run(capsys, "evaluate", str(translate_run), "--beam-width", "-2")
    assert (status, err.count("\n")) == (1, 1)
    assert "`width` is a number of beams" in err


@pytest.mark.slow
def test_a_language_model_is_evaluated_in_its_own_way_and_has_nothing_to_export(language_model_run, capsys, tmp_path):
    status, out, _ = run(capsys, "evaluate", str(language_model_run))
    metrics = json.loads((language_model_run / "metrics.json").read_text())
    assert status == 0
    assert figures(out) == {name: str(metrics[name]) for name in figures(out)}
    assert {"test_bits_per_character", "validation_bits_per_character", "test_perplexity"} <= figures(out).keys()
    status, _, err = run(capsys, "evaluate", str(language_model_run), "--beam-width", "2")
    assert (status, err.count("\n")) == (1, 1)
    assert "The settings of `evaluate` are for models that answer texts. Received: language_model." in err
    status, _, err = run(capsys, "export", str(language_model_run), "--to", str(tmp_path / "models"))
    assert (status, err.count("\n")) == (1, 1)
    assert "nothing to export yet" in err
    assert "a run of language_model" in err
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module")
def server(dates_run, translate_run, tmp_path_factory):
    """The two runs, exported with a name of their own, and served."""
    folder = tmp_path_factory.mktemp("models")
    for name, run_folder in (("days", dates_run), ("words", translate_run)):
        assert main(["export", str(run_folder), "--to", str(folder), "--name", name]) == 0
    with EmbeddedServer({name: folder / name for name in ("days", "words")}) as server:
        yield server


@pytest.mark.slow
def test_ask_prints_an_answer_a_text(server, capsys):
    status, out, err = run(capsys, "ask", "words", "old house", "small bird", "--url", server.url)
    assert (status, err.replace("  (the answer was cut to the model's greatest length)\n", "")) == (0, "")
    assert len(out.splitlines()) == 2
    status, _, err = run(capsys, "ask", "days", "5 March 2021" * 20, "--url", server.url)
    assert status == 0
    assert "  (the text was cut to the model's greatest length)\n" in err


@pytest.mark.slow
def test_ask_draws_the_alignment_where_the_signature_gives_one(server, capsys):
    arguments = ("--url", server.url, "--signature-name", "serving_attention")
    status, out, _ = run(capsys, "ask", "days", "5 März", *arguments)
    answer, header, *rows = out.splitlines()
    assert status == 0
    assert header.split() == list("5▁März")
    assert [row[0] for row in rows] == list(answer)


@pytest.mark.slow
def test_ask_says_what_is_wrong_in_one_line(server, capsys):
    status, _, err = run(capsys, "ask", "nobody", "a text", "--url", server.url)
    assert (status, err.count("\n")) == (1, 1)
    assert "Servable not found for request: Latest(nobody)" in err
    status, _, err = run(capsys, "ask", "days", "a text", "--url", "http://127.0.0.1:9")
    assert (status, err.count("\n")) == (1, 1)
    assert "Nothing answers at http://127.0.0.1:9" in err
    assert "seqattn serve --model_name=days" in err
    assert run(capsys, "ask", "days")[0] == 2
    assert run(capsys, "ask")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["days", "words"])
def test_a_server_answers_as_the_run_does(name, server, dates_run, translate_run, capsys):
    folder = {"days": dates_run, "words": translate_run}[name]
    arguments = ("--url", server.url, "--model", name, "--num-served", "20")
    status, out, _ = run(capsys, "evaluate", str(folder), *arguments)
    found = figures(out)
    assert status == 0
    assert found["served_as_here"] == found["texts"]
    assert int(found["texts"]) > 3


def test_export_knows_its_folder_beforehand(capsys, tmp_path):
    status, _, err = run(capsys, "export", str(tmp_path), "--to", str(tmp_path / "models"))
    assert status == 1
    assert "holds config.json" in err
    assert not Path(tmp_path / "models").exists()
