"""Draws the pictures of docs/mechanisms, each from a small model that is trained for it in a minute or two.

    python docs/draw.py alignments --attention local-p
    python docs/draw.py gates --cell gru
    python docs/draw.py schedules
    python docs/draw.py --help

The tasks are made here, so that everybody gets the same pictures: a seed, a task, a model, a text.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

PICTURES = Path(__file__).parent / "mechanisms" / "pictures"
SEED = 0

# The tasks from texts to texts.

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NOUNS = {
    "el perro": "dog",
    "el gato": "cat",
    "el libro": "book",
    "el barco": "boat",
    "la casa": "house",
    "la mesa": "table",
    "la puerta": "door",
    "la luna": "moon",
}
ADJECTIVES = {
    "roj": "red",
    "negr": "black",
    "blanc": "white",
    "pequeñ": "small",
    "viej": "old",
    "nuev": "new",
}
CONJUNCTIONS = {"y": "and", "o": "or", "con": "with", "sin": "without"}


def spelled_digits(rng: random.Random) -> tuple[str, str]:
    """A number read aloud digit by digit, often with the same digit again: "four seven seven" -> "477"."""
    digits = [rng.randrange(10)]
    for _ in range(rng.randrange(1, 7)):
        digits.append(digits[-1] if rng.random() < 0.3 else rng.randrange(10))
    return " ".join(DIGITS[digit] for digit in digits), "".join(map(str, digits))


def phrases(rng: random.Random) -> tuple[str, str]:
    """Spanish, where the adjective follows, to English: "la casa roja y el gato" -> "the red house and the cat"."""
    spanish, english = [], []
    for index in range(rng.randrange(1, 4)):
        if index:
            word = rng.choice(sorted(CONJUNCTIONS))
            spanish.append(word)
            english.append(CONJUNCTIONS[word])
        noun = rng.choice(sorted(NOUNS))
        spanish.append(noun)
        english.append("the")
        if rng.random() < 0.75:
            adjective = rng.choice(sorted(ADJECTIVES))
            spanish.append(adjective + ("a" if noun.startswith("la") else "o"))
            english.append(ADJECTIVES[adjective])
        english.append(NOUNS[noun])
    return " ".join(spanish), " ".join(english)


def written_dates(locales: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Dates in words to ISO 8601."""
    from keras_seqattn.training.data.dates import date_splits

    return date_splits(SEED, train=count, validation=0, test=0, locales=locales).train


def fixed_forms(rng: random.Random) -> tuple[str, str]:
    """A date in one fixed form to another: "05/03/2021" -> "2021-03-05"."""
    day, month, year = rng.randrange(1, 29), rng.randrange(1, 13), rng.randrange(1900, 2100)
    return f"{day:02d}/{month:02d}/{year}", f"{year}-{month:02d}-{day:02d}"


def each(make: Callable[[random.Random], tuple[str, str]]) -> Callable[[int], list[tuple[str, str]]]:
    """Pairs by a function that makes one."""

    def pairs(count: int) -> list[tuple[str, str]]:
        rng = random.Random(SEED)
        return [make(rng) for _ in range(count)]

    return pairs


@dataclass(frozen=True)
class Task:
    """What a model from texts to texts learns, and the text that is drawn."""

    pairs: Callable[[int], list[tuple[str, str]]]
    text: str
    wanted: str
    longest: int  # tokens
    words: bool = False  # whether a token is a word; else it is a character
    train: int = 16_000
    epochs: int = 2
    units: int = 64
    cell: str = "gru"
    input_feeding: bool = True
    learning_rate: float = 5e-3


TASKS = {
    "dates": Task(
        lambda count: written_dates(("en", "es", "pt", "fr"), count),
        "viernes, 5 de marzo de 2021",
        "2021-03-05",
        longest=36,
        # With a short memory, and without what was read before, each character is read where it stands.
        cell="elman",
        input_feeding=False,
        learning_rate=3e-3,
    ),
    "forms": Task(each(fixed_forms), "05/03/2021", "2021-03-05", longest=12),
    "digits": Task(each(spelled_digits), "four seven seven seven two one", "477721", longest=42),
    "phrases": Task(
        each(phrases),
        "la casa roja y el gato negro con el libro",
        "the red house and the black cat with the book",
        longest=14,
        words=True,
    ),
}
TASK_OF = {  # on which task a way to attend shows what it is for
    "bahdanau": "dates",
    "normalized_bahdanau": "dates",
    "dot": "dates",
    "general": "dates",
    "concat": "dates",
    "location": "forms",
    "local-m": "phrases",
    "local-p": "dates",
    "monotonic": "digits",
    "location_sensitive": "digits",
}
SETTINGS: dict[str, dict[str, Any]] = {  # of the models, beside the name of the attention
    "local-m": {"window": 2},
    "local-p": {"window": 6},
    "location": {"max_source_length": 12},
    "location_sensitive": {"location_filters": 8, "location_kernel_size": 7, "attend": "before"},
    "monotonic": {"initial_score_bias": -2.0, "score_noise": 2.0},
}
CHANGES: dict[str, dict[str, Any]] = {  # of the tasks
    "general": {"epochs": 3, "units": 48},
    "local-p": {"epochs": 4, "cell": "gru", "input_feeding": True, "learning_rate": 5e-3},
    "monotonic": {"epochs": 5},
    "normalized_bahdanau": {"epochs": 4},
}


def recurrent(task: Task, settings: dict[str, Any]) -> Callable[[int, int], Any]:
    """Makes a small `Seq2Seq` between vocabularies of two sizes."""
    from keras_seqattn.models import Seq2Seq

    shape = {"units": task.units, "embedding_dim": 32, "cell": task.cell, "input_feeding": task.input_feeding}
    return lambda source_size, target_size: Seq2Seq(source_size, target_size, **shape, **settings)


def train_text_to_text(task: Task, make_model: Callable[[int, int], Any]) -> Any:
    """`TextToText` around a small model that has learned the task; tells how many other texts it answers right."""
    import keras

    from keras_seqattn.text import CharacterTokenizer, TextToText, WordTokenizer
    from keras_seqattn.training.bucketing import batches, tokenize_pairs
    from keras_seqattn.training.fit import FitSettings, compile_model

    keras.utils.set_random_seed(SEED)
    pairs = task.pairs(task.train)
    held_out = {source for source, _ in pairs[:300]} | {task.text}
    test = [pair for pair in pairs[:300] if pair[0] != task.text]
    pairs = [pair for pair in pairs if pair[0] not in held_out]
    kind = WordTokenizer if task.words else CharacterTokenizer
    source_tokenizer, target_tokenizer = (kind.learn(side) for side in zip(*pairs, strict=True))
    data = tokenize_pairs(pairs, source_tokenizer, target_tokenizer, (task.longest,), 64 * task.longest)
    model = make_model(source_tokenizer.vocabulary_size, target_tokenizer.vocabulary_size)
    fitting = FitSettings(epochs=task.epochs, learning_rate=task.learning_rate, warmup_steps=100, xla="on", seed=SEED)
    compile_model(model, fitting, data.steps * task.epochs)
    ids = {"start_id": target_tokenizer.start_id, "end_id": target_tokenizer.end_id}
    model.fit(
        batches(data, **ids, seed=SEED, epochs=task.epochs), epochs=task.epochs, steps_per_epoch=data.steps, verbose=2
    )
    answering = TextToText(model, source_tokenizer, target_tokenizer, task.longest, data.buckets[-1].target_length)
    answers = [answer.decode() for answer in answering([source for source, _ in test])["answer"].numpy()]
    right = sum(answer == wanted for answer, (_, wanted) in zip(answers, test, strict=True))
    print(f"{right} of {len(test)} held-out texts answered right")
    return answering


def read(answering: Any, task: Task) -> tuple[list[str], list[str], np.ndarray]:
    """The task's text, its answer, and the alignment (T, S) between them.

    Raises: ValueError when the answer is wrong: such a model has nothing to show.
    """
    import tensorflow as tf

    # Not compiled, so that it sees what was changed since the last call.
    found = {name: value.numpy()[0] for name, value in answering.answer(tf.constant([task.text])).items()}
    if found["answer"].decode() != task.wanted:
        raise ValueError(f"The model must answer {task.wanted!r}. Received: {found['answer'].decode()!r}.")
    source, answer = ([token.decode() for token in found[name]] for name in ("source_tokens", "answer_tokens"))
    return source, answer, found["attention"]


def draw_alignments(attention: str) -> Any:
    """Which source tokens each token of an answer reads, by one kind of attention of `Seq2Seq`."""
    from keras_seqattn.inspection import alignment_figure

    task = TASKS[TASK_OF[attention]]
    task = replace(task, **CHANGES.get(attention, {}))
    answering = train_text_to_text(task, recurrent(task, {"attention": attention, **SETTINGS.get(attention, {})}))
    if attention != "monotonic":
        return [alignment_figure(*read(answering, task), title=f"attention={attention!r}")]
    figures = []
    for hard, what in ((False, "the expectation, as in training"), (True, "the choice, as in inference")):
        answering.model.decoder_cell.attention.hard_inference = hard
        figures.append(alignment_figure(*read(answering, task), title=f"attention={attention!r}: {what}"))
    return figures


def draw_gates(cell: str, coupled_gates: bool) -> list[Any]:
    """The gates of a cell that has to remember the last digit of a text, character by character."""
    import keras

    from keras_seqattn.inspection import gates_figure
    from keras_seqattn.layers import GRUCell, LSTMCell, Recurrent

    if coupled_gates and cell != "lstm":
        raise ValueError(f"`--coupled-gates` goes with `--cell lstm`. Received: {cell=}.")
    keras.utils.set_random_seed(SEED)
    made = GRUCell(12) if cell == "gru" else LSTMCell(12, coupled_gates=coupled_gates)
    ids = keras.Input((None,), dtype="int32")
    outputs, trace = Recurrent(made, return_sequences=True, return_trace=True)(one_hot(ids, len(ALPHABET)))
    model = keras.Model(ids, keras.layers.Dense(11)(outputs))
    texts, last, _ = digits_amid_letters(4000)
    train(model, texts, last, epochs=8)
    found = keras.Model(ids, trace).predict(as_ids([REMEMBERED]), verbose=0)
    names = {"gru": ("update_gate", "reset_gate", "candidate"), "lstm": tuple(trace)}[cell]
    title = (
        f"{type(made).__name__}: {'input gate = 1 - forget gate, ' if coupled_gates else ''}which digit was the last?"
    )
    return [gates_figure({name: found[name] for name in names}, visible(REMEMBERED), title)]


def draw_directions() -> list[Any]:
    """The states of both directions of a GRU that names the digit before and the digit after each character."""
    import keras

    from keras_seqattn.inspection import gates_figure
    from keras_seqattn.layers import Bidirectional, GRUCell, Recurrent

    keras.utils.set_random_seed(SEED)
    ids = keras.Input((None,), dtype="int32")
    layer = Bidirectional(Recurrent(GRUCell(10), return_sequences=True), merge_mode=None)
    forward, backward = layer(one_hot(ids, len(ALPHABET)))
    both = keras.ops.concatenate([forward, backward], axis=-1)
    model = keras.Model(ids, [keras.layers.Dense(11, name=name)(both) for name in ("before", "after")])
    texts, *targets = digits_amid_letters(4000)
    train(model, texts, targets, epochs=8)
    states = keras.Model(ids, [forward, backward]).predict(as_ids([REMEMBERED]), verbose=0)
    trace = dict(zip(("forward state", "backward state"), states, strict=True))
    return [gates_figure(trace, visible(REMEMBERED), "Which digit comes before, which after?")]


def draw_letters() -> list[Any]:
    """How surprised an Elman network is at each letter of random syllables, and its state."""
    import keras
    from matplotlib.figure import Figure

    from keras_seqattn.inspection import gates_figure
    from keras_seqattn.layers import ElmanCell, Recurrent

    keras.utils.set_random_seed(SEED)
    rng = random.Random(SEED)
    letters, length = "abdgiu", 41
    texts = ["".join(rng.choice(("ba", "dii", "guuu")) for _ in range(length))[:length] for _ in range(2000)]
    rows = np.array([[letters.index(letter) for letter in text] for text in texts], "int32")
    ids = keras.Input((None,), dtype="int32")
    layer = Recurrent(ElmanCell(10), return_sequences=True, return_trace=True)
    outputs, trace = layer(one_hot(ids, len(letters)))
    logits = keras.layers.Dense(len(letters))(outputs)
    train(keras.Model(ids, logits), rows[:, :-1], rows[:, 1:], epochs=10)

    text = "baguuudiibaguuuguuubadiidiibaguuuba"
    row = np.array([[letters.index(letter) for letter in text]], "int32")
    state, found = keras.Model(ids, [trace["state"], keras.ops.log_softmax(logits)]).predict(row, verbose=0)
    surprise = -found[0, np.arange(len(text) - 1), row[0, 1:]] / np.log(2)  # of letter 1, 2, ...
    states = gates_figure({"state": state}, list(text))
    states.draw_without_rendering()
    place = states.axes[0].get_position()
    figure = Figure(figsize=(states.get_figwidth(), 2.2))
    axes = figure.add_axes((place.x0, 0.15, place.width, 0.65))  # the same columns as below
    axes.bar(range(1, len(text)), surprise, color="tab:blue")
    axes.set_xlim(-0.5, len(text) - 0.5)
    axes.set_xticks(range(len(text)), list(text))
    axes.tick_params(length=0)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_ylabel("bits")
    axes.set_title("How surprising each letter is to an Elman network that has read those before it")
    return [figure, states]


def draw_plans() -> list[Any]:
    """The actions of a Jordan network whose input, the plan, stays the same."""
    import keras
    from matplotlib.figure import Figure

    from keras_seqattn.layers import JordanCell, Recurrent

    keras.utils.set_random_seed(SEED)
    steps, first = {"U": 1, "D": 3, "J": 2}, {"U": 0, "D": 3, "J": 0}  # of four actions, and the one to begin with
    rng = np.random.default_rng(SEED)
    plans, last = rng.integers(3, size=(6400, 1)), rng.integers(5, size=6400)  # 4: no action yet
    following = [
        first["UDJ"[plan]] if before == 4 else (before + steps["UDJ"[plan]]) % 4
        for plan, before in zip(plans[:, 0], last, strict=True)
    ]
    said = np.eye(5)[last, :4] * rng.uniform(0.8, 1.0, size=(6400, 1))  # as it comes back: nearly, not quite, one

    # Trained one step at a time, with the right action as the last one; then it goes on from its own.
    ids, state = keras.Input((None,), dtype="int32"), keras.Input((4,))
    cell = JordanCell(12, output_units=4, output_activation="softmax")
    outputs = Recurrent(cell, return_sequences=True)(one_hot(ids, 3), initial_state=[state])
    model = keras.Model([ids, state], keras.ops.log(outputs + 1e-7))
    train(model, [plans.astype("int32"), said.astype("float32")], np.array(following, "int32")[:, None], epochs=10)

    text = "U" * 8 + "D" * 8 + "J" * 8
    drawn = np.array([["UDJ".index(plan) for plan in text]], "int32")
    found = np.exp(model.predict([drawn, np.zeros((1, 4), "float32")], verbose=0)[0])  # (T, 4)
    figure = Figure(figsize=(8.5, 2.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(found.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    axes.set_xticks(range(len(text)), list(text))
    axes.set_yticks(range(4), ["1", "2", "3", "4"])
    axes.tick_params(length=0)
    axes.set_xlabel("plan: U(p), D(own), J(ump by two)")
    axes.set_ylabel("action")
    figure.colorbar(image, label="output")
    figure.suptitle("JordanCell: the plan stays, the actions go on")
    return [figure]


def draw_levels() -> list[Any]:
    """What each of two attending levels of a decoder reads of a date."""
    from keras_seqattn.inspection import alignment_figure
    from keras_seqattn.layers import AttentionCell, BahdanauAttention, GRUCell, StackedCells

    task = TASKS["dates"]
    levels = [
        AttentionCell(GRUCell(48), BahdanauAttention(48), attention_units=48, input_feeding=False) for _ in range(2)
    ]
    pairs = task.pairs(task.train)
    rows = [((source,), target) for source, target in pairs if source != task.text]
    trace = train_decoder(StackedCells(levels), rows, ((task.text,), task.wanted))
    return [
        alignment_figure(visible(task.text), visible(task.wanted), trace[f"{level}/attention_scores"], f"level {level}")
        for level in range(2)
    ]


def draw_memories() -> list[Any]:
    """What a decoder reads of two memories: a date, and the digits of a room, spelled."""
    from keras_seqattn.inspection import alignment_figure
    from keras_seqattn.layers import AttentionCell, BahdanauAttention, GRUCell

    rng, task = random.Random(SEED), TASKS["dates"]
    rows = []
    for source, iso in task.pairs(task.train):
        room = [rng.randrange(10) for _ in range(3)]
        if source != task.text:
            rows.append(((source, " ".join(DIGITS[digit] for digit in room)), f"{iso} {''.join(map(str, room))}"))
    drawn, answer = (task.text, "four seven one"), f"{task.wanted} 471"
    attentions = [BahdanauAttention(48), BahdanauAttention(48)]
    cell = AttentionCell(GRUCell(64), attentions, attention_units=64, input_feeding=False)
    trace = train_decoder(cell, rows, (drawn, answer))
    return [
        alignment_figure(visible(text), visible(answer), trace[f"attention_scores_{index}"], f"memory {index}: {text}")
        for index, text in enumerate(drawn)
    ]


def draw_masks() -> list[Any]:
    """What dropout and zoneout have drawn for one sequence."""
    import keras
    from matplotlib.figure import Figure

    from keras_seqattn.layers import GRUCell

    width, length, rate = 16, 24, 0.25
    cell = GRUCell(width, dropout=rate, recurrent_dropout=rate, zoneout=rate, seed=SEED)
    cell.build((1, width))
    (kept,) = cell.begin(rows=1, width=width, length=length, training=True)  # (T, 1, U)
    dropped = [keras.ops.convert_to_numpy(mask)[0] == 0 for mask in (cell.input_mask, cell.state_mask)]  # (U,) each
    cell.end()
    masks = {
        "dropout: inputs": np.tile(dropped[0], (length, 1)),
        "recurrent_dropout: state": np.tile(dropped[1], (length, 1)),
        "zoneout: state": keras.ops.convert_to_numpy(kept)[:, 0],
    }
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    for axes, (name, mask) in zip(figure.subplots(1, 3), masks.items(), strict=True):
        axes.imshow(mask.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("step")
        axes.set_yticks([])
    figure.axes[0].set_ylabel(f"{width} units")
    return [figure]


def draw_schedules() -> list[Any]:
    """Three ways to go from the teacher's words to the model's own."""
    import keras
    from matplotlib.figure import Figure

    from keras_seqattn.schedules import InverseSigmoidDecay

    schedules = keras.optimizers.schedules
    curves = {
        "linear: PolynomialDecay(1.0, 800, 0.1)": schedules.PolynomialDecay(1.0, 800, 0.1),
        "exponential: ExponentialDecay(1.0, 1, 0.996)": schedules.ExponentialDecay(1.0, 1, 0.996),
        "inverse sigmoid: InverseSigmoidDecay(k=90)": InverseSigmoidDecay(k=90.0),
    }
    steps = np.arange(0, 1001, 5)
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, schedule in curves.items():
        axes.plot(steps, [float(schedule(int(step))) for step in steps], label=name)
    axes.set_xlabel("training step i")
    axes.set_ylabel("probability of the right word")
    axes.set_ylim(0, 1.05)
    axes.grid(alpha=0.3)
    axes.legend()
    return [figure]


def draw_reach() -> list[Any]:
    """How far gradients reach back: through a whole sequence, and through windows with carried state."""
    import keras
    import tensorflow as tf
    from matplotlib.figure import Figure

    from keras_seqattn.layers import ElmanCell, Recurrent

    length, window, width = 24, 6, 8
    keras.utils.set_random_seed(SEED)
    cell = ElmanCell(width)
    inputs = tf.random.normal((1, length, width), stddev=0.2, seed=SEED)
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    every = figure.subplots(1, 2, sharey=True)
    for axes, size, title in zip(every, (length, window), ("whole sequence", f"windows of {window}"), strict=True):
        layer = Recurrent(cell, return_sequences=True, stateful=True)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            windows = [layer(inputs[:, start : start + size]) for start in range(0, length, size)]
            said = tf.unstack(tf.reduce_sum(tf.concat(windows, axis=1), axis=(0, 2)))  # a number a step
        sizes = np.stack([np.linalg.norm(tape.gradient(one, inputs)[0], axis=-1) for one in said])  # (T, T)
        image = axes.imshow(sizes, cmap="Blues", vmin=0)
        axes.set_title(title)
        axes.set_xlabel("inputs at step s")
    every[0].set_ylabel("output at step t")
    figure.colorbar(image, ax=list(every), label="size of the gradient", shrink=0.9)
    return [figure]


# What the drawings share.

ALPHABET = " abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = (
    "room",
    "is",
    "open",
    "shut",
    "the",
    "a",
    "cat",
    "sat",
    "on",
    "mats",
    "and",
    "book",
    "has",
    "pages",
    "bus",
    "at",
)
REMEMBERED = "room 7 is open room 4 is shut"


def digits_amid_letters(count: int, length: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts as ids (N, T), and for each character the last digit up to it and the first after it; 10 is none."""
    rng = random.Random(SEED)
    texts, last, coming = [], [], []
    for _ in range(count):
        words: list[str] = []
        while len(" ".join(words)) < length:
            words.append(str(rng.randrange(10)) if rng.random() < 0.2 else rng.choice(WORDS))
        text = " ".join(words)[:length]
        texts.append(text)
        last.append(digit_before(text))
        coming.append(digit_before(text[::-1])[::-1])
    return as_ids(texts), np.array(last, "int32"), np.array(coming, "int32")


def digit_before(text: str) -> list[int]:
    """The last digit up to each character, itself counted; 10 is none."""
    digits = [10]
    for character in text:
        digits.append(int(character) if character.isdigit() else digits[-1])
    return digits[1:]


def as_ids(texts: Sequence[str]) -> np.ndarray:
    """Texts of one length in the alphabet as ids (N, T)."""
    return np.array([[ALPHABET.index(character) for character in text] for text in texts], "int32")


def visible(text: str) -> list[str]:
    """The characters of a text as they stand on an axis."""
    return ["▁" if character == " " else character for character in text]


def one_hot(ids: Any, width: int) -> Any:
    """Ids (B, T) as features (B, T, width)."""
    import keras

    return keras.layers.Lambda(lambda x: keras.ops.one_hot(x, width))(ids)


def train(model: Any, inputs: Any, targets: Any, epochs: int) -> None:
    """Fits a model that gives logits (B, T, C), or several; batches of 64."""
    import keras

    batches = len(keras.tree.flatten(inputs)[0]) // 64
    rate = keras.optimizers.schedules.CosineDecay(1e-2, epochs * batches, alpha=0.02)
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    # Every batch of one shape: the step is compiled once.
    inputs, targets = keras.tree.map_structure(lambda x: x[: 64 * batches], (inputs, targets))
    model.fit(inputs, targets, batch_size=64, epochs=epochs, verbose=2)


def train_decoder(cell: Any, rows: Sequence[tuple[tuple[str, ...], str]], drawn: tuple[tuple[str, ...], str]) -> Any:
    """A decoder by teacher forcing, whose `cell` attends to one encoded text or several.

    Args:
        rows: texts to read, and the text to write.
        drawn: one more, which is not trained on.
    Returns: the trace of the decoder while it writes `drawn`: arrays (T, ...) by name.
    Raises: ValueError when it would not write it.
    """
    import keras

    from keras_seqattn.layers import Bidirectional, ElmanCell, Recurrent
    from keras_seqattn.text import CharacterTokenizer

    keras.utils.set_random_seed(SEED)
    every = [*rows, drawn]
    columns = [*zip(*(texts for texts, _ in every), strict=True), tuple(answer for _, answer in every)]
    tokenizers = [CharacterTokenizer.learn(column) for column in columns]
    ids = [
        tokenizer.tokenize(column).to_tensor(0).numpy() for tokenizer, column in zip(tokenizers, columns, strict=True)
    ]
    written = ids.pop()  # (N, T)
    begun = np.concatenate([np.full_like(written[:, :1], tokenizers[-1].start_id), written[:, :-1]], axis=1)

    sources = [keras.Input((one.shape[1],), dtype="int32") for one in ids]
    target = keras.Input((begun.shape[1],), dtype="int32")
    memories, masks = [], []
    for source, tokenizer in zip(sources, tokenizers, strict=False):
        masks.append(keras.ops.not_equal(source, 0))
        embedded = keras.layers.Embedding(tokenizer.vocabulary_size, 32)(source)
        encoder = Bidirectional(Recurrent(ElmanCell(48), return_sequences=True))
        memories.append(encoder(embedded, mask=masks[-1]))
    several = len(sources) > 1
    vectors, trace = Recurrent(cell, return_sequences=True, return_trace=True)(
        keras.layers.Embedding(tokenizers[-1].vocabulary_size, 32)(target),
        memory=memories if several else memories[0],
        memory_mask=masks if several else masks[0],
    )
    logits = keras.layers.Dense(tokenizers[-1].vocabulary_size)(vectors)
    model = keras.Model([*sources, target], logits)
    train(model, [*(one[:-1] for one in ids), begun[:-1]], written[:-1], epochs=2)

    last = [*(one[-1:] for one in ids), begun[-1:]]
    found, said = keras.Model([*sources, target], [trace, logits]).predict(last, verbose=0)
    if (said[0].argmax(axis=-1) != written[-1]).any():
        raise ValueError(f"The model must answer {drawn[1]!r}. Received: ids {said[0].argmax(axis=-1)}.")
    return {name: value[0] for name, value in found.items()}


def save(figures: Sequence[Any], path: Path) -> None:
    """Writes figures, one under the other, as one picture of 256 colours, which makes it small."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image  # matplotlib's own dependency

    drawn = []
    for figure in figures:
        figure.set_dpi(100)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn.append(np.asarray(canvas.buffer_rgba())[:, :, :3])  # (Y, X, 3)
    width = max(one.shape[1] for one in drawn)
    drawn = [np.pad(one, ((0, 0), (0, width - one.shape[1]), (0, 0)), constant_values=255) for one in drawn]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(drawn)).quantize(256).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def draw_heads(of: str) -> list[Any]:
    """What each head of a small transformer reads: of its own sentence, or of the other one."""
    import tensorflow as tf
    from matplotlib.figure import Figure

    from keras_seqattn.models import Transformer

    task = replace(TASKS["phrases"], epochs=4)
    sizes = {"model_dim": 64, "num_heads": 4, "num_layers": 2, "normalize_first": True, "dropout": 0.1}
    answering = train_text_to_text(task, lambda source, target: Transformer(source, target, **sizes))
    sources, answers, _ = read(answering, task)
    model, ids = answering.model, answering.source_tokenizer.tokenize([task.text]).to_tensor()  # (1, S)
    target = answering.target_tokenizer.tokenize([task.wanted]).to_tensor()
    if of == "encoder":
        x, block = model.source_reader(ids), model.encoder_blocks[0]
        _, scores = block(x, return_attention_scores=True)
        rows = sources
    else:
        memory, mask = model.encode(ids)
        begun = tf.concat([[[answering.target_tokenizer.start_id]], target[:, :-1]], axis=1)
        x, block = model.target_reader(begun), model.decoder_blocks[0]
        _, _, scores = block(x, memory, memory_mask=mask, return_attention_scores=True)
        rows = answers
    scores = np.asarray(scores)[0]  # (H, T, S)
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for head, axes in enumerate(figure.subplots(1, len(scores), sharey=True)):
        axes.imshow(scores[head], cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"head {head + 1}", fontsize="medium")
        axes.set_xticks(range(len(sources)), [token.strip("▁") for token in sources], rotation=90, fontsize="small")
        axes.set_yticks(range(len(rows)), [token.strip("▁") for token in rows], fontsize="small")
    figure.suptitle(f"what the first block of the {of} reads", fontsize="medium")
    return [figure]


def draw_positions() -> list[Any]:
    """Four ways to tell where a step stands."""
    import keras
    from matplotlib.figure import Figure

    from keras_seqattn.ops.positions import alibi_bias, distances_of, relative_buckets, rotary, sinusoids

    length, width = 64, 32
    numpy, places = keras.ops.convert_to_numpy, keras.ops.arange(length)
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    waves, turned, falling, buckets = figure.subplots(1, 4)
    waves.imshow(numpy(sinusoids(places, width)).T, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    waves.set(title="sinusoidal: added", xlabel="step", ylabel=f"{width} features")
    ones = keras.ops.ones((1, length, 1, width)) / width**0.5
    heads = numpy(rotary(ones, places))[0, :, 0]  # (T, K)
    turned.plot(heads @ heads[0])
    turned.set(title="rotary: query . key of equal steps", xlabel="distance")
    distances = distances_of(length, 1)
    for head, bias in enumerate(numpy(alibi_bias(distances, 4))):
        falling.plot(-numpy(distances), bias, label=f"head {head + 1}")
    falling.set(title="ALiBi: added to the logits", xlabel="distance", ylim=(-20, 1))
    falling.legend(fontsize="small")
    distances = np.arange(-160, 161)
    buckets.plot(distances, numpy(relative_buckets(keras.ops.convert_to_tensor(distances))), drawstyle="steps-mid")
    buckets.set(title="relative: buckets", xlabel="s - t")
    for axes in (turned, falling, buckets):
        axes.grid(alpha=0.3)
    return [figure]


DRAWINGS: dict[str, Callable[..., list[Any]]] = {
    "alignments": draw_alignments,
    "directions": draw_directions,
    "gates": draw_gates,
    "heads": draw_heads,
    "letters": draw_letters,
    "levels": draw_levels,
    "masks": draw_masks,
    "memories": draw_memories,
    "plans": draw_plans,
    "positions": draw_positions,
    "reach": draw_reach,
    "schedules": draw_schedules,
}


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line: what to draw, its options, and `output`, where to."""
    parser = argparse.ArgumentParser(description="Draws the pictures of docs/mechanisms.")
    commands = parser.add_subparsers(dest="drawing", required=True)
    for name, draw in DRAWINGS.items():
        command = commands.add_parser(name, help=draw.__doc__, description=draw.__doc__)
        command.add_argument("--output", type=Path, help="the picture; one in docs/mechanisms/pictures unless told")
        if name == "alignments":
            command.add_argument("--attention", choices=sorted(TASK_OF), required=True)
        if name == "heads":
            command.add_argument("--of", choices=("encoder", "decoder"), required=True)
        if name == "gates":
            command.add_argument("--cell", choices=("gru", "lstm"), required=True)
            command.add_argument("--coupled-gates", action="store_true", help="an option of the LSTM")
    arguments = parser.parse_args(words)
    options = {name: value for name, value in vars(arguments).items() if name not in ("drawing", "output")}
    words = [name.split("_")[0] if value is True else value for name, value in options.items() if value]
    arguments.options = options
    arguments.output = arguments.output or PICTURES / f"{'-'.join([arguments.drawing, *words])}.png"
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    """Draws one picture. Exit status 1 when the model has not learned what it was to show."""
    arguments = parsed(words)
    try:
        save(DRAWINGS[arguments.drawing](**arguments.options), arguments.output)
    except (ValueError, ImportError) as error:
        print(f"draw.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
