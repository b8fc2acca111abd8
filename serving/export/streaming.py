"""Answers piece by piece: two signatures, `init` and `step`, between which the client keeps the state.

    init(texts)            -> piece, token_id, ended, finished, memory_..., state_...
    step(memory, state)    -> piece, token_id, ended, finished, state_...        until all are finished

A server then keeps nothing, and any server goes on with any stream. Each tensor of memory and state has a name and the
batch first, in types that go through JSON: what is one number for a whole call, such as the time, stands in each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keras_seqattn.decoding import Beam, Greedy
from keras_seqattn.text import TextGeneration, TextToText

__all__ = ["PIECE", "Streaming", "streaming_of"]

PIECE = ("piece", "token_id", "ended", "finished")
OURS = ("sent", "row")  # of the state; the rest is the decoder's progress, with the model's own state as `model`
# What more text may still change: half a character is U+FFFD until its last byte comes, and SentencePiece's escape of
# two characters is itself until its second one does.
UNSETTLED = "[\ufffd\U000f2581]+$"


class Streaming:
    """The two functions of a stream, for a text to text or a text generation model.

    Joined, the pieces of a text are the text that `serving_default` gives. Each is whole characters: a character whose
    bytes come with several tokens is held back until it is complete, or the text is over.

    Args:
        begin: from texts (B,) to the model's memory, the arguments of the decoder, and named flags (B,).
        step_of: from the memory to the decoder's step function.
        text_of: from ids (B, T) and lengths (B,) to texts (B,).
        decoder: keeps one answer a text, so that what it has written stays.
        max_length: int, steps at most, the end token's included.
        end_id: int.
        use_xla: compile each step by XLA, all but the strings.
    """

    def __init__(
        self,
        begin: Callable[[Any], tuple[Any, dict[str, Any], dict[str, Any]]],
        step_of: Callable[[Any], Any],
        text_of: Callable[[Any, Any], Any],
        decoder: Any,
        max_length: int,
        end_id: int,
        use_xla: bool = False,
    ) -> None:
        self.begin = begin
        self.step_of = step_of
        self.text_of = text_of
        self.decoder = decoder
        self.max_length = max_length
        self.end_id = end_id
        self.use_xla = use_xla
        self.forms: dict[str, Any] = {}  # of memory and state, as `init` has found them

    def init(self, texts: Any) -> dict[str, Any]:
        """The signature `init`, to be traced first: reads the texts (B,) and writes the first token of each."""
        import tensorflow as tf

        memory, beginning, flags = self.begin(texts)

        def start(memory: Any, beginning: Any) -> Any:
            step = without_attention(self.step_of(memory))
            return self.decoder.start(step, max_length=self.max_length, end_id=self.end_id, **beginning)

        progress = xla(start, self.use_xla)(memory, beginning)
        lengths = progress["lengths"]
        state = {**renamed(progress, "state", "model"), "sent": tf.zeros_like(lengths)}
        if "seed" in progress:
            state["row"] = tf.range(tf.size(lengths))
        found, state = self.told(state, tf.zeros_like(progress["ended"]))
        self.forms = {"memory": formed(memory), "state": formed(state)}
        return {**found, **flags, **sendable({"memory": memory, "state": state}, tf.size(lengths))}

    def step(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The signature `step`: one more token of each row, and nothing where a row is finished.

        Rows may be of streams that stand at different places, as where a server makes one batch of several requests;
        then each is computed by itself.
        """
        import tensorflow as tf

        received = restored(self.forms, tensors)
        outputs = [*PIECE, *names_of({"state": self.forms["state"]})]

        def together() -> list[Any]:
            advanced = self.advance(received["memory"], received["state"])
            return [advanced[name] for name in outputs]

        def one_by_one() -> list[Any]:
            def one(row: dict[str, Any]) -> list[Any]:
                alone = restored(self.forms, {name: tensor[None] for name, tensor in row.items()})
                state = alone["state"]
                if "seed" in state:  # so that the rows of one call do not share their noise
                    seed = state["seed"]
                    state["seed"] = seed + tf.stack([tf.cast(state["row"][0], seed.dtype), tf.zeros((), seed.dtype)])
                advanced = self.advance(alone["memory"], state)
                if "seed" in state:
                    advanced["state_seed"] = row["state_seed"][None]
                return [advanced[name][0] for name in outputs]

            kinds = [tf.TensorSpec((), kind) for kind in (tf.string, tf.int32, tf.bool, tf.bool)]
            forms = names_of({"state": self.forms["state"]}).values()
            kinds += [tf.TensorSpec(form.sent_shape[1:], form.sent_dtype) for form in forms]
            return tf.map_fn(one, dict(tensors), fn_output_signature=kinds)

        alike = [tf.reduce_all(tf.equal(tensors[name], tensors[name][:1])) for name in self.numbers()]
        if "state_row" in tensors:  # what chance gives a row depends on its place
            row = tensors["state_row"]
            alike.append(tf.reduce_all(tf.equal(row, tf.range(tf.size(row)))))
        found = tf.cond(tf.reduce_all(tf.stack(alike)), together, one_by_one)
        return dict(zip(outputs, found, strict=True))

    def advance(self, memory: Any, state: Any) -> dict[str, Any]:
        """One step of rows that stand at one place, unless all of them are finished: the outputs, as they are sent."""
        import tensorflow as tf

        def advance(memory: Any, progress: Any) -> Any:
            return self.decoder.advance(without_attention(self.step_of(memory)), progress, self.end_id)

        before = renamed({name: x for name, x in state.items() if name not in OURS}, "model", "state")
        after = tf.cond(
            self.decoder.finished(before),
            lambda: leaves(before),
            lambda: leaves(xla(advance, self.use_xla)(memory, before)),
        )
        over = before["ended"] | (before["time"] >= self.max_length)  # (B,)
        state = {**state, **renamed(packed(before, after), "state", "model")}
        found, state = self.told(state, over)
        return {**found, **sendable({"state": state}, tf.size(state["sent"]))}

    def told(self, state: Any, over: Any) -> tuple[dict[str, Any], Any]:
        """What a step tells of its progress, and the state with how much that is; `over` (B,): nothing was to come."""
        import tensorflow as tf

        sent, finished = state["sent"], state["ended"] | (state["time"] >= self.max_length)
        text = self.text_of(state["ids"], state["lengths"])
        text = tf.where(finished, text, tf.strings.regex_replace(text, UNSETTLED, ""))
        lengths = tf.strings.length(text)  # in bytes
        found = {
            "piece": tf.strings.substr(text, sent, lengths - sent),
            "token_id": tf.where(over, self.end_id, state["chosen"]),
            "ended": state["ended"],
            "finished": finished,
        }
        return found, {**state, "sent": lengths}

    def numbers(self) -> list[str]:
        """The names of what is one for all rows of a call."""
        return [name for name, form in names_of(self.forms).items() if not form.has_rows]

    def input_signature(self) -> dict[str, Any]:
        """What `step` takes, by names; `init` has been traced."""
        import tensorflow as tf

        return {
            name: tf.TensorSpec(form.sent_shape, form.sent_dtype, name) for name, form in names_of(self.forms).items()
        }


def streaming_of(answering: TextToText | TextGeneration, use_xla: bool = False) -> Streaming | None:
    """How a model streams; None where it cannot: beams may change what they have written, until their end."""
    model, decoder = answering.model, answering.decoder or Greedy()
    if isinstance(decoder, Beam) or not hasattr(model, "begin_decoding"):
        return None
    if isinstance(answering, TextGeneration):
        return Streaming(
            lambda prompts: begin_generation(answering, prompts, use_xla),
            model.decoding_step,
            answering.text,
            decoder,
            answering.max_length,
            answering.tokenizer.end_id,
            use_xla,
        )
    return Streaming(
        lambda texts: begin_answer(answering, texts, use_xla),
        model.decoding_step,
        answering.text,
        decoder,
        answering.max_target_length,
        answering.target_tokenizer.end_id,
        use_xla,
    )


def begin_generation(
    generation: TextGeneration, prompts: Any, use_xla: bool
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """What a language model has read of prompts (B,); its state has one shape, whatever their length."""
    # XLA wants one shape, and constraints keep the prompt in the state.
    one_shape = use_xla or bool(generation.decoder and generation.decoder.constraints)
    ids, mask, truncated = generation.read(prompts, one_shape)
    num_slots = generation.max_prompt_length + generation.max_length - 1

    def begin(ids: Any, mask: Any) -> Any:
        return generation.model.begin_decoding(ids, generation.max_length, mask, num_slots)

    memory, beginning = xla(begin, use_xla)(ids, mask)
    return memory, beginning, {"prompt_truncated": truncated}


def begin_answer(answering: TextToText, texts: Any, use_xla: bool) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """What a text to text model has read of texts (B,)."""
    source, truncated = answering.read(texts)

    def begin(source: Any) -> Any:
        return answering.model.begin_decoding(source, answering.max_target_length, answering.target_tokenizer.start_id)

    memory, beginning = xla(begin, use_xla)(source)
    return memory, beginning, {"source_truncated": truncated}


def xla(function: Callable[..., Any], use_xla: bool) -> Callable[..., Any]:
    """`function`, compiled by XLA if so asked."""
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False) if use_xla else function


def renamed(structure: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """A dict with another name for one of its keys."""
    return {new if key == old else key: value for key, value in structure.items()}


def without_attention(step: Callable[..., Any]) -> Callable[..., Any]:
    """A decoder's step whose attention is not kept: a stream would carry it along and read it nowhere."""
    return lambda ids, state, time: (*step(ids, state, time)[:2], None)


class Form(NamedTuple):
    """How a tensor of memory or state looks inside, and on its way."""

    shape: tuple[int | None, ...]
    dtype: Any
    has_rows: bool

    @property
    def sent_shape(self) -> tuple[int | None, ...]:
        return (None, *(self.shape[1:] if self.has_rows else self.shape))

    @property
    def sent_dtype(self) -> Any:
        import tensorflow as tf

        return tf.float32 if self.dtype.is_floating else self.dtype  # JSON carries no bfloat16


SEED = "seed"  # (2,) for a whole call


def mapped(function: Callable[[str, Any], Any], structure: Any, name: str = "") -> Any:
    """`structure` with each leaf as `function` gives it from its name and itself; fields and indices make the name."""

    def inside(key: Any, value: Any) -> Any:
        return mapped(function, value, f"{name}_{key}" if name else str(key))

    if isinstance(structure, Form):
        return function(name, structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*map(inside, structure._fields, structure))
    if isinstance(structure, Mapping):
        return {key: inside(key, structure[key]) for key in sorted(structure)}
    if isinstance(structure, list | tuple):
        return type(structure)(inside(index, value) for index, value in enumerate(structure))
    return function(name, structure)


def names_of(structure: Any) -> dict[str, Any]:
    """The leaves of a structure by their names."""
    found: dict[str, Any] = {}
    mapped(found.__setitem__, structure)
    return found


def leaves(structure: Any) -> list[Any]:
    """The leaves of a structure, as tensors."""
    import tensorflow as tf

    return [tf.convert_to_tensor(leaf) for leaf in names_of(structure).values()]


def packed(like: Any, tensors: list[Any]) -> Any:
    """The structure of `like` with other leaves."""
    remaining = iter(tensors)
    return mapped(lambda name, leaf: next(remaining), like)


def formed(structure: Any) -> Any:
    """A structure of tensors as one of `Form`s."""
    import tensorflow as tf

    def form(name: str, leaf: Any) -> Form:
        leaf = tf.convert_to_tensor(leaf)
        has_rows = leaf.shape.rank > 0 and not name.endswith(SEED)
        return Form(tuple(leaf.shape), leaf.dtype, has_rows)

    return mapped(form, structure)


def sendable(structure: Any, rows: Any) -> dict[str, Any]:
    """The tensors of a structure by name, each with `rows` rows."""
    import tensorflow as tf

    forms, found = names_of(formed(structure)), {}
    for name, leaf in names_of(structure).items():
        leaf = tf.cast(tf.convert_to_tensor(leaf), forms[name].sent_dtype)
        if not forms[name].has_rows:
            leaf = tf.broadcast_to(leaf, tf.concat([[rows], tf.shape(leaf)], axis=0))
        found[name] = leaf
    return found


def restored(forms: Any, tensors: Mapping[str, Any]) -> Any:
    """The structure that was sent, of which `tensors` are the rows."""
    import tensorflow as tf

    def leaf(name: str, form: Form) -> Any:
        tensor = tf.cast(tensors[name], form.dtype)
        if not form.has_rows:
            tensor = tf.concat([tensor, tf.zeros((1, *form.shape), form.dtype)], axis=0)[0]  # a batch may be empty
        return tensor

    return mapped(leaf, forms)
