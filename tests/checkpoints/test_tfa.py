"""What tfa.seq2seq computed with the weights in tests/fixtures/tfa, ours computes when they are loaded."""

import json
import re
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import keras_seqattn
from keras_seqattn import layers
from keras_seqattn.checkpoints import load_tfa, read_tfa
from keras_seqattn.decoding import Beam, Greedy
from keras_seqattn.layers import (
    AttentionCell,
    BahdanauAttention,
    ElmanCell,
    GRUCell,
    LSTMCell,
    LuongAttention,
    MonotonicAttention,
    Recurrent,
    StackedCells,
)
from tests.layers.paper_weights import numpy

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tfa"
B, T, S, D, V, U, A = 2, 3, 5, 3, 7, 11, 13  # as in make.py


def attending(cell, attention, attention_units=A, attention_activation=None, **kwargs):
    return AttentionCell(cell, attention, attention_units, attention_activation=attention_activation, **kwargs)


def general(**kwargs):
    return LuongAttention("general", **kwargs)


def monotonic(score="normalized_bahdanau", units=None):
    return MonotonicAttention(score, units, hard_inference=False)


CASES = {
    "luong": lambda: attending(LSTMCell(U), general()),
    "luong_scale": lambda: attending(GRUCell(U), general(use_scale=True), V),
    "bahdanau": lambda: attending(LSTMCell(U), BahdanauAttention(5)),
    "stacked": lambda: attending(StackedCells([LSTMCell(5), GRUCell(U)]), BahdanauAttention(5, normalize=True), V),
    "activated": lambda: attending(ElmanCell(U), general(), attention_activation="tanh"),
    "not_fed": lambda: attending(LSTMCell(U, peephole=True), general(), input_feeding=False),
    "several": lambda: attending(LSTMCell(U), [general(), BahdanauAttention(5, normalize=True)], A + 2),
    "several_contexts": lambda: attending(GRUCell(U), [general(use_scale=True), general()], V + 3),
    "luong_monotonic": lambda: attending(LSTMCell(U), monotonic(general(use_scale=True))),
    "bahdanau_monotonic": lambda: attending(LSTMCell(U), monotonic(units=5)),
    "hard_monotonic": lambda: attending(LSTMCell(U), MonotonicAttention("bahdanau", 5)),
}


def close(actual, expected):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-5, atol=1e-5)


def arrays_of(name):
    return dict(np.load(FIXTURES / f"{name}.npz"))


def run(layer, arrays):
    """Outputs of a layer, and the alignments by its attentions, for the inputs of a case."""
    memories = [arrays[f"memory_{index}"] for index in range(2) if f"memory_{index}" in arrays]
    masks = [np.arange(memory.shape[1]) < arrays[f"lengths_{index}"][:, None] for index, memory in enumerate(memories)]
    if len(memories) == 1:
        output, trace = layer(arrays["inputs"], memory=memories[0], memory_mask=masks[0])
        return output, [trace["attention_scores"]]
    output, trace = layer(arrays["inputs"], memory=memories, memory_mask=masks)
    return output, [trace[f"attention_scores_{index}"] for index in range(2)]


def built(name, cell=None):
    """A layer like the wrapper of a case, and the case's arrays."""
    layer, arrays = Recurrent(cell or CASES[name](), return_sequences=True, return_trace=True), arrays_of(name)
    run(layer, arrays)
    return layer, arrays


def check(layer, arrays):
    output, alignments = run(layer, arrays)
    close(output, arrays["output"])
    for index, scores in enumerate(alignments):
        close(scores, arrays[f"alignments_{index}"])


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_alignments_equal_those_of_tfa(name):
    layer, arrays = built(name)
    rest = load_tfa(
        FIXTURES / name, {"decoder/cell": layer}, attention_activation="tanh" if name == "activated" else None
    )
    assert rest == []
    check(layer, arrays)


def test_a_cell_of_keras_takes_the_weights_as_well():
    layer, arrays = built("luong", attending(keras.layers.LSTMCell(U), general()))
    load_tfa(FIXTURES / "luong", {"decoder/cell": layer})
    check(layer, arrays)


def test_the_cell_itself_may_be_given_for_the_layer_that_runs_it():
    layer, arrays = built("luong")
    load_tfa(FIXTURES / "luong", {"decoder/cell": layer.cell})
    check(layer, arrays)


def test_weights_may_come_from_a_dict_of_arrays():
    layer, arrays = built("bahdanau")
    load_tfa(read_tfa(FIXTURES / "bahdanau"), {"decoder/cell": layer})
    check(layer, arrays)


def test_weights_may_come_from_hdf5():
    layer, arrays = built("stacked")
    load_tfa(FIXTURES / "stacked.h5", {"attention_wrapper_3": layer})
    check(layer, arrays)


def test_the_dict_names_what_there_is_to_load():
    shapes = {name: array.shape for name, array in read_tfa(FIXTURES / "luong").items()}
    assert shapes == {
        "decoder/cell/_attention_layers/0/kernel": (U + V, A),
        "decoder/cell/_attention_mechanisms/0/memory_layer/kernel": (V, U),
        "decoder/cell/_cell/kernel": (D + A, 4 * U),
        "decoder/cell/_cell/recurrent_kernel": (U, 4 * U),
        "decoder/cell/_cell/bias": (4 * U,),
    }


# A whole model: reverse.py
REVERSE = FIXTURES / "reverse"
IDS = 13


def parts_of_reverse():
    """Layers as those of reverse.py, built, by the paths of the checkpoint."""
    cell = AttentionCell(LSTMCell(17), general(), attention_units=11, attention_activation=None)
    parts = {
        "encoder/embedding": keras.layers.Embedding(IDS, 7),
        "encoder/lstm": Recurrent(LSTMCell(17)),
        "decoder/embedding": keras.layers.Embedding(IDS, 7),
        "decoder/cell": Recurrent(cell),
        "decoder/output_layer": keras.layers.Dense(IDS),
    }
    parts["encoder/embedding"].build((B, S))
    parts["decoder/embedding"].build((B, T))
    parts["encoder/lstm"].build((B, S, 7))
    parts["decoder/cell"].build((B, T, 7), (B, S, 17))
    parts["decoder/output_layer"].build((B, T, 11))
    return parts


def weights_of(parts):
    return [numpy(weight).copy() for layer in parts.values() for weight in layer.weights]


def equal(ours, theirs):
    return all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_of_a_folder_the_latest_checkpoint_is_taken_and_what_was_not_asked_for_is_told():
    parts = parts_of_reverse()
    assert load_tfa(REVERSE, parts) == ["save_counter"]
    embedding = numpy(parts["encoder/embedding"].embeddings)
    assert np.array_equal(embedding, read_tfa(REVERSE / "model-1")["encoder/embedding/embeddings"])


def test_any_path_of_attributes_leads_to_the_weights():
    # The checkpoint holds the mechanism's kernel below decoder/mechanism, and the wrapper below decoder/cell.
    ours, theirs = parts_of_reverse(), parts_of_reverse()
    load_tfa(REVERSE, {"decoder/cell": ours["decoder/cell"]})
    load_tfa(REVERSE, {"decoder/trainer/cell": theirs["decoder/cell"]})
    assert equal(weights_of({"": ours["decoder/cell"]}), weights_of({"": theirs["decoder/cell"]}))


def test_hdf5_files_and_checkpoint_of_a_model_hold_the_same():
    by_checkpoint, by_file = parts_of_reverse(), parts_of_reverse()
    load_tfa(REVERSE, by_checkpoint)
    names = {"encoder": {"encoder/embedding": "embedding", "encoder/lstm": "lstm"}}
    names["decoder"] = {
        "decoder/embedding": "embedding_1",
        "decoder/cell": "attention_wrapper_11",
        "decoder/output_layer": "dense_1",
    }
    for file, groups in names.items():
        rest = load_tfa(REVERSE / f"{file}.h5", {group: by_file[path] for path, group in groups.items()})
        assert rest == []
    assert equal(weights_of(by_file), weights_of(by_checkpoint))


def test_the_variables_of_a_saved_model_are_read_as_a_checkpoint():
    ours, theirs = parts_of_reverse(), parts_of_reverse()
    load_tfa(REVERSE, ours)
    rest = load_tfa(
        REVERSE / "saved_encoder", {"embedding": theirs["encoder/embedding"], "lstm": theirs["encoder/lstm"]}
    )
    assert rest == []
    for path in ("encoder/embedding", "encoder/lstm"):
        assert equal(weights_of({path: ours[path]}), weights_of({path: theirs[path]}))


def test_of_a_whole_model_in_hdf5_the_weights_are_read(tmp_path, rng):
    arrays = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    with h5py.File(tmp_path / "model.h5", "w") as file:  # as `model.save` of Keras 2 writes it
        group = file.create_group("model_weights/dense")
        file["model_weights"].attrs["layer_names"] = [b"dense"]
        group.attrs["weight_names"] = [f"dense/{name}:0".encode() for name in arrays]
        for name, array in arrays.items():
            group[f"dense/{name}:0"] = array
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert load_tfa(tmp_path / "model.h5", {"dense": layer}) == []
    close(layer.kernel, arrays["kernel"])


def test_a_checkpoint_without_objects_is_read_by_its_names(tmp_path, rng):
    import tensorflow as tf

    arrays = {"fc/kernel": rng.normal(size=(3, 2)), "fc/bias": rng.normal(size=2), "global_step": np.array(7)}
    prefix = str(tmp_path / "model")
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=list(arrays), shape_and_slices=[""] * 3, tensors=list(arrays.values())
    )
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert load_tfa(prefix, {"fc": layer}) == ["global_step"]
    close(layer.kernel, arrays["fc/kernel"])


@pytest.mark.parametrize("stacked", [layers.StackedCells, keras.layers.StackedRNNCells])
def test_stacked_cells_and_both_directions_are_found_by_keras_names(rng, stacked):
    runs = layers.Recurrent if stacked is layers.StackedCells else keras.layers.RNN
    both = layers.Bidirectional if stacked is layers.StackedCells else keras.layers.Bidirectional
    layer = both(runs(stacked([keras.layers.GRUCell(5), keras.layers.LSTMCell(3)])))
    layer.build((2, 3, 7))
    shapes = (
        {"kernel": (7, 15), "recurrent_kernel": (5, 15), "bias": (2, 15)},
        {
            "kernel": (5, 12),
            "recurrent_kernel": (3, 12),
            "bias": (12,),
        },
    )
    arrays = {
        f"encoder/{way}_layer/cell/cells/{index}/{name}": rng.normal(size=shape)
        for way in ("forward", "backward")
        for index, of_cell in enumerate(shapes)
        for name, shape in of_cell.items()
    }
    assert load_tfa(arrays, {"encoder": layer}) == []
    for weight, array in zip(layer.weights, arrays.values(), strict=True):
        close(weight, array)


def test_a_cell_around_a_cell_is_looked_into(rng):
    layer = Recurrent(layers.ResidualCell(layers.DropoutCell(GRUCell(3), 0.5)))
    layer.build((2, 5, 3))
    shapes = {"kernel": (3, 9), "recurrent_kernel": (3, 9), "bias": (2, 9)}
    # As with tf.nn.RNNCellResidualWrapper and tf.nn.RNNCellDropoutWrapper.
    arrays = {f"rnn/cell/cell/cell/{name}": rng.normal(size=shape) for name, shape in shapes.items()}
    assert load_tfa(arrays, {"rnn": layer}) == []
    for weight, array in zip(layer.weights, arrays.values(), strict=True):
        close(weight, array)


# What does not fit
def test_nothing_is_loaded_when_one_of_several_layers_does_not_fit():
    parts = parts_of_reverse()
    parts["decoder/output_layer"] = keras.layers.Dense(IDS, use_bias=False)
    parts["decoder/output_layer"].build((B, T, 11))
    before = weights_of(parts)
    with pytest.raises(ValueError, match="Left over: bias"):
        load_tfa(REVERSE, parts)
    assert equal(weights_of(parts), before)


def test_missing_names_are_told():
    arrays = read_tfa(FIXTURES / "bahdanau")
    del arrays["decoder/cell/_attention_mechanisms/0/attention_v"]
    with pytest.raises(ValueError, match="Missing in `source`: _attention_mechanisms/0/attention_v. Left over: none"):
        load_tfa(arrays, {"decoder/cell": built("bahdanau")[0]})


def test_a_mechanism_of_the_other_kind_is_not_taken():
    with pytest.raises(ValueError, match="Left over: .*/attention_v, .*/query_layer/kernel"):
        load_tfa(FIXTURES / "bahdanau", {"decoder/cell": built("luong")[0]})


def test_a_wrong_shape_is_told_with_both_names():
    layer, _ = built("luong", attending(LSTMCell(U), general(), A + 1))
    with pytest.raises(ValueError, match=r"'decoder/cell/_attention_layers/0/kernel', which make shape \(18, 13\)"):
        load_tfa(FIXTURES / "luong", {"decoder/cell": layer})
    dense = keras.layers.Dense(3)
    dense.build((None, 4))
    with pytest.raises(ValueError, match=r"'fc/kernel' of shape \(3, 4\), where '.*kernel' needs \(4, 3\)"):
        load_tfa({"fc/kernel": np.ones((3, 4)), "fc/bias": np.ones(3)}, {"fc": dense})


def test_a_path_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match="Received: path='decoder/rnn'. Names in `source`: .*decoder/embedding"):
        load_tfa(REVERSE, {"decoder/rnn": built("luong")[0]})


def test_a_layer_without_a_path_is_refused():
    with pytest.raises(ValueError, match="`layers` must be a dict"):
        load_tfa(FIXTURES / "luong", built("luong")[0])


def test_a_layer_without_weights_yet_is_refused():
    with pytest.raises(ValueError, match="must be built.*call it once"):
        load_tfa(FIXTURES / "luong", {"decoder/cell": Recurrent(CASES["luong"]())})


def test_a_model_is_refused_as_a_whole():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="give each of its layers a path of its own"):
        load_tfa(REVERSE, {"decoder": model})


@pytest.mark.parametrize(
    ("fixture", "cell", "words"),
    [
        ("luong", lambda: attending(LSTMCell(U), general(), attend="before"), "must too: attend='after'"),
        ("luong", lambda: attending(LSTMCell(U), general(), None), "must have `attention_units`, its width"),
        (
            "luong",
            lambda: attending(LSTMCell(U), general(), attention_activation="tanh"),
            "attention_activation='tanh'",
        ),
        ("luong", lambda: attending(LSTMCell(U), LuongAttention("concat", 3)), "whose weights are"),
        ("luong_scale", lambda: attending(GRUCell(U), general(), None), "must have attention_units=7"),
        ("luong_scale", lambda: attending(GRUCell(U), general(), A), "must have attention_units=7"),
    ],
    ids=["before", "no_vector", "tanh", "concat", "no_vector_for_the_context", "another_width"],
)
def test_a_cell_that_computes_something_else_is_refused(fixture, cell, words):
    with pytest.raises(ValueError, match=words):
        load_tfa(FIXTURES / fixture, {"decoder/cell": built(fixture, cell())[0]})


def test_the_activation_of_the_attention_layer_must_be_that_of_the_cell():
    with pytest.raises(ValueError, match="attention_activation=None, and attention_activation='tanh'"):
        load_tfa(FIXTURES / "luong", {"decoder/cell": built("luong")[0]}, attention_activation="tanh")


@pytest.mark.parametrize("source", ["nowhere/model", FIXTURES, 7], ids=["prefix", "folder", "number"])
def test_a_source_that_holds_no_weights_is_refused(source):
    with pytest.raises(ValueError, match="`source` must be"):
        read_tfa(source)


def test_hdf5_files_of_keras_3_are_refused_with_a_way_out(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(ValueError, match="save the model with `tf.train.Checkpoint`"):
        read_tfa(tmp_path / "new.weights.h5")


# docs/migrating-from-tfa.md
PAGE = Path(__file__).parents[2] / "docs" / "migrating-from-tfa.md"


@pytest.fixture(scope="module")
def model():
    """The model of the page, with the weights of tfa's."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names = {"__name__": "page"}
    exec(compile(block, str(PAGE), "exec"), names)
    return names["model"]


def test_the_page_shows_the_program_that_made_its_checkpoint():
    (block,) = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert block in (FIXTURES / "reverse.py").read_text(encoding="utf-8")


def test_the_page_tells_of_every_public_name():
    rows = re.findall(r"^\| `(tfa\.\w+)\.(\w+)` \| \S", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {module: sorted(name for of, name in rows if of == module) for module in ("tfa.seq2seq", "tfa.rnn")}
    assert told == json.loads((FIXTURES / "names.json").read_text())


def test_the_names_of_ours_on_the_page_exist():
    used = re.findall(r"`(layers|decoding|losses)\.(\w+)", PAGE.read_text(encoding="utf-8"))
    missing = [f"{room}.{name}" for room, name in used if not hasattr(getattr(keras_seqattn, room), name)]
    assert used and not missing


def test_a_whole_model_answers_as_with_tfa(model):
    expected = dict(np.load(REVERSE / "expected.npz"))
    source, target = expected["source"], expected["target"]
    logits, alignments = model({"source": source, "target": target[:, :-1]})
    close(logits, expected["logits"])
    close(alignments, expected["alignments"])

    found = model.generate(source, 6, Greedy())
    ended = np.cumsum(expected["greedy"] == 2, axis=1) > 0
    assert np.array_equal(numpy(found.ids), np.where(ended, 0, expected["greedy"]))

    found = model.generate(source, 6, Beam(width=3, num_return=3))
    ids = expected["beam_ids"].transpose(0, 2, 1)  # (B, G, T)
    ended = np.cumsum(ids == 2, axis=2) > 0
    assert np.array_equal(numpy(found.ids), np.where(ended, 0, ids))
    close(found.scores, expected["beam_log_probs"])
