"""The callbacks alone: what they write to TensorBoard, read back by TensorBoard's own reader."""

from __future__ import annotations

import io

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_seqattn.training.callbacks import Alignments, Progress, SampleAnswers, Scalars, SeedEachEpoch
from keras_seqattn.training.callbacks.alignments import draw
from keras_seqattn.training.callbacks.sample_answers import in_cell
from keras_seqattn.training.callbacks.summaries import as_png
from tests.training.echo import echoing
from tests.training.events import read_events

pytestmark = pytest.mark.tensorflow_only


def small_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    return model


def fit(model, *callbacks, epochs=2, initial_epoch=0):
    """Six steps an epoch."""
    x, y = np.ones((6, 2), "float32"), np.ones((6, 1), "float32")
    return model.fit(
        x, y, batch_size=1, epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=list(callbacks)
    )


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_sample_answers_writes_a_table_of_answers_each_epoch(echo, tmp_path):
    printed = io.StringIO()
    pairs = [("abc", "cba"), ("a|b", "x\ny")]
    fit(small_model(), SampleAnswers(echo, pairs, tmp_path, Console(file=printed)))
    events = read_events(tmp_path)
    assert sorted(events.texts) == ["answers"]
    table = "| text | answer | right |\n|---|---|---|\n| abc | abc | cba |\n| a\\|b | a�b | x y |"
    assert events.texts["answers"] == [(1, table), (2, table)]
    assert printed.getvalue().splitlines() == ["  abc  →  abc"] * 2


def test_sample_answers_works_without_a_console_and_without_a_text(echo, tmp_path):
    fit(small_model(), SampleAnswers(echo, [("abc", "abc")], tmp_path / "quiet"), epochs=1)
    assert "abc" in read_events(tmp_path / "quiet").texts["answers"][0][1]
    printed = io.StringIO()
    fit(small_model(), SampleAnswers(echo, [], tmp_path / "none", Console(file=printed)), epochs=1)
    assert printed.getvalue() == ""


def test_a_text_cannot_break_out_of_its_cell():
    assert in_cell("a|b\\c\r\nd") == "a\\|b\\\\c  d"


def test_alignments_writes_a_picture_a_text_with_the_tokens_on_its_axes(echo, tmp_path):
    import tensorflow as tf

    texts = ["abcd", "b a"]
    fit(small_model(), Alignments(echo, texts, tmp_path))
    events = read_events(tmp_path)
    assert sorted(events.images) == ["alignment/0", "alignment/1"]
    figures = draw(echo, texts)
    for index, (figure, text) in enumerate(zip(figures, texts, strict=True)):
        axes = figure.axes[0]
        tokens = list(text.replace(" ", "▁"))
        assert labels(axes.xaxis) == labels(axes.yaxis) == tokens
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("source", "answer")
        np.testing.assert_array_equal(axes.images[0].get_array(), np.eye(len(tokens)))
        drawn = tf.io.decode_png(as_png(figure), channels=3).numpy()
        steps = [step for step, _ in events.images[f"alignment/{index}"]]
        assert steps == [1, 2]
        for _, png in events.images[f"alignment/{index}"]:
            np.testing.assert_array_equal(tf.io.decode_png(png).numpy(), drawn)


def test_an_answer_in_scripts_without_a_font_is_drawn_all_the_same(tmp_path):
    figure = draw(echoing("月日م\u200dक"), ["月م\u200dक日"])[0]
    assert len(labels(figure.axes[0].xaxis)) == 5
    assert as_png(figure).startswith(b"\x89PNG")


def test_an_empty_text_and_an_empty_answer_are_drawn(echo):
    figure = draw(echo, [""])[0]
    assert labels(figure.axes[0].xaxis) == []
    assert as_png(figure).startswith(b"\x89PNG")


def test_text_and_pictures_are_written_whatever_the_frequency_of_the_scalars(echo, tmp_path):
    callbacks = [
        keras.callbacks.TensorBoard(tmp_path, update_freq=1000),
        SampleAnswers(echo, [("abc", "abc")], tmp_path),
        Alignments(echo, ["abc"], tmp_path),
    ]
    fit(small_model(), *callbacks)
    events = read_events(tmp_path)
    assert len(events.texts["answers"]) == 2
    assert len(events.images["alignment/0"]) == 2


def test_scalars_are_counted_on_when_a_training_is_taken_up_again(tmp_path):
    model = small_model()
    fit(model, Scalars(tmp_path, write_graph=False, update_freq=2), epochs=1)
    fit(model, Scalars(tmp_path, write_graph=False, update_freq=2), epochs=2, initial_epoch=1)
    scalars = read_events(tmp_path / "train").scalars
    assert [step for step, _ in scalars["batch_loss"]] == [2, 4, 6, 8, 10, 12]
    assert [step for step, _ in scalars["epoch_loss"]] == [0, 1]


def test_what_dropout_draws_depends_on_the_seed_and_the_epoch_alone():
    def drawn(seed, epoch):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5), keras.layers.Dropout(0.5)])
        callback = SeedEachEpoch(seed)
        callback.set_model(model)
        model(np.ones((1, 2)), training=True)  # moves the generators on
        callback.on_epoch_begin(epoch)
        return [tuple(variable.numpy()) for variable in model.variables]

    first = drawn(seed=3, epoch=0)
    assert drawn(seed=3, epoch=0) == first  # in a model of its own, as in a process of its own
    every = {*first, *drawn(seed=3, epoch=1), *drawn(seed=4, epoch=0)}
    assert len(every) == 6  # no two layers, epochs or seeds draw alike
    assert {count for _, count in every} == {0}


def test_progress_leaves_a_line_an_epoch_where_there_is_no_terminal():
    printed = io.StringIO()
    fit(small_model(), Progress(6, Console(file=printed)))
    lines = printed.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(" s  loss " in line for line in lines)


def test_progress_shows_steps_and_loss_on_a_terminal_and_clears_them_away():
    printed = io.StringIO()
    progress = Progress(6, Console(file=printed, force_terminal=True, width=100))
    fit(small_model(), progress)
    assert "6/6" in printed.getvalue()
    assert progress.bar is None
