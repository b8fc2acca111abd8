"""Models from the folders of Hugging Face's: the same numbers as theirs, and what does not fit is told."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_seqattn.checkpoints import load_huggingface
from keras_seqattn.decoding import Beam, Sampling

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

B, T, IDS, D, F, H, L, MAX = 2, 11, 29, 12, 17, 3, 2, 23  # batch, steps, vocabulary, widths, heads, layers, positions
BERT = {
    "vocab_size": IDS,
    "hidden_size": D,
    "num_hidden_layers": L,
    "num_attention_heads": H,
    "intermediate_size": F,
    "max_position_embeddings": MAX,
    "type_vocab_size": 3,
}
GPT = {"vocab_size": IDS, "n_embd": D, "n_layer": L, "n_head": H, "n_positions": MAX, "n_inner": F}
GPT |= {"bos_token_id": 0, "eos_token_id": 0}
numpy = keras.ops.convert_to_numpy


def saved(kind, folder, dtype=None, max_shard_size="5GB", **options):
    """One of their models, with weights far from zero, written to a folder."""
    torch.manual_seed(0)
    config = transformers.BertConfig if kind.startswith("Bert") else transformers.GPT2Config
    model = getattr(transformers, kind)(config(**{**(BERT if kind.startswith("Bert") else GPT), **options})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    if dtype is not None:
        model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return model.to(torch.float32)


def rewrite(folder, change, file="model.safetensors"):
    """Changes the tensors or the config of a folder."""
    from safetensors.numpy import load_file, save_file

    if file == "config.json":
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))
    else:
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file)


def close(ours, theirs):
    np.testing.assert_allclose(numpy(ours), theirs.numpy(), rtol=1e-4, atol=1e-4)


@pytest.fixture
def inputs(rng):
    ids = rng.integers(1, IDS, (B, T)).astype("int32")
    ids[1, 7:] = 0  # padding
    segment_ids = rng.integers(0, 3, (B, T)).astype("int32")
    return {"ids": ids, "segment_ids": segment_ids}


def ask_bert(model, inputs):
    with torch.no_grad():
        return model(
            torch.tensor(inputs["ids"], dtype=torch.long),
            attention_mask=torch.tensor(inputs["ids"] != 0),
            token_type_ids=torch.tensor(inputs["segment_ids"], dtype=torch.long),
            output_hidden_states=True,
        )


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("BertModel", None),
        ("BertForMaskedLM", "masked_words"),
        ("BertForPreTraining", "masked_words"),
        ("BertForSequenceClassification", "sequence"),
        ("BertForTokenClassification", "tokens"),
    ],
)
def test_bert_computes_what_theirs_does(tmp_path, inputs, kind, head):
    theirs = ask_bert(saved(kind, tmp_path, num_labels=5), inputs)
    model, tokenizer = load_huggingface(tmp_path)
    assert (model.head, tokenizer) == (head, None)
    is_there = inputs["ids"] != 0
    expected = theirs.prediction_logits if kind == "BertForPreTraining" else theirs[0]
    rows = slice(None) if head == "sequence" else is_there
    close(numpy(model(inputs))[rows], expected[rows])
    for ours, state in zip(model.hidden_states(**inputs), theirs.hidden_states, strict=True):
        close(numpy(ours)[is_there], state[is_there])


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations_are_theirs_too(tmp_path, inputs, activation):
    theirs = ask_bert(saved("BertModel", tmp_path, hidden_act=activation), inputs)
    model, _ = load_huggingface(tmp_path)
    is_there = inputs["ids"] != 0
    close(numpy(model(inputs))[is_there], theirs[0][is_there])


def ask_gpt(model, inputs):
    with torch.no_grad():
        return model(torch.tensor(inputs["ids"], dtype=torch.long), output_hidden_states=True)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GPT2LMHeadModel", {}),
        ("GPT2LMHeadModel", {"tie_word_embeddings": False}),
        ("GPT2LMHeadModel", {"n_inner": None, "activation_function": "relu"}),
        ("GPT2Model", {}),
    ],
    ids=["tied", "untied", "relu", "without_head"],
)
@pytest.mark.parametrize("max_shard_size", ["5GB", "4KB"])
def test_gpt_computes_what_theirs_does(tmp_path, inputs, kind, options, max_shard_size):
    theirs = ask_gpt(saved(kind, tmp_path, max_shard_size=max_shard_size, **options), inputs)
    assert (tmp_path / "model.safetensors").exists() == (max_shard_size == "5GB")
    model, _ = load_huggingface(tmp_path)
    for ours, state in zip(model.hidden_states(inputs["ids"]), theirs.hidden_states, strict=True):
        close(ours, state)
    if kind != "GPT2Model":
        close(model(inputs["ids"]), theirs.logits)


def test_gpt_writes_on_as_theirs_does(tmp_path, inputs):
    theirs = saved("GPT2LMHeadModel", tmp_path)
    model, _ = load_huggingface(tmp_path)
    prompt = inputs["ids"][:1]
    with torch.no_grad():
        expected = theirs.generate(
            torch.tensor(prompt, dtype=torch.long), max_new_tokens=7, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
    np.testing.assert_array_equal(numpy(model.generate(prompt, 7).ids), expected[:, T:].numpy())


@pytest.mark.parametrize("end_id", [-1, 5], ids=["never_ends", "ends"])
def test_beams_of_gpt_are_theirs(tmp_path, inputs, end_id):
    theirs = saved("GPT2LMHeadModel", tmp_path)
    model, _ = load_huggingface(tmp_path)
    prompt = inputs["ids"][:1]
    with torch.no_grad():
        expected = theirs.generate(
            torch.tensor(prompt, dtype=torch.long),
            attention_mask=torch.ones((1, T), dtype=torch.long),
            max_new_tokens=7,
            num_beams=4,
            num_return_sequences=3,
            do_sample=False,
            length_penalty=0.0,  # by probability alone, as theirs is another formula
            early_stopping=False,
            eos_token_id=end_id if end_id >= 0 else None,
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
        )
    found = model.generate(prompt, 7, end_id=end_id, decoder=Beam(width=4, num_return=3))
    np.testing.assert_allclose(numpy(found.scores)[0], expected.sequences_scores.numpy(), rtol=1e-4, atol=1e-4)
    for ours, sequence in zip(numpy(found.ids)[0], expected.sequences[:, T:].numpy(), strict=True):
        written = np.zeros(7, "int32")
        written[: len(sequence)] = np.where(sequence == end_id, 0, sequence)
        np.testing.assert_array_equal(ours, written)


def test_what_gpt_draws_by_given_noise_is_what_theirs_draws(tmp_path, inputs, rng, monkeypatch):
    theirs = saved("GPT2LMHeadModel", tmp_path)
    model, _ = load_huggingface(tmp_path)
    prompt, gumbel = inputs["ids"][:1], rng.gumbel(size=(7, IDS)).astype("float32")

    class Drawing(Sampling):
        def noise(self, tokens, time, seed):
            return ops.take(ops.take(ops.convert_to_tensor(gumbel), time, axis=0), tokens)

    steps = iter(range(7))

    def multinomial(probs, num_samples):
        noise = torch.tensor(gumbel[next(steps)])
        return torch.argmax(torch.log(probs) + noise, dim=-1, keepdim=True)

    monkeypatch.setattr(torch, "multinomial", multinomial)
    with torch.no_grad():
        expected = theirs.generate(
            torch.tensor(prompt, dtype=torch.long),
            attention_mask=torch.ones((1, T), dtype=torch.long),
            max_new_tokens=7,
            do_sample=True,
            temperature=0.7,
            top_k=9,
            top_p=0.8,
            eos_token_id=None,
            pad_token_id=0,
        )
    found = model.generate(prompt, 7, decoder=Drawing(temperature=0.7, top_k=9, top_p=0.8))
    np.testing.assert_array_equal(numpy(found.ids), expected[:, T:].numpy())
    assert len(set(numpy(found.ids)[0].tolist())) > 1


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.0), ("float16", 0.0)])
def test_weights_of_half_precision_are_read(tmp_path, dtype, tolerance):
    theirs = saved("GPT2LMHeadModel", tmp_path, getattr(torch, dtype))
    model, _ = load_huggingface(tmp_path)
    expected = theirs.transformer.wte.weight.detach().numpy()
    np.testing.assert_allclose(numpy(model.reader.embedding.embeddings), expected, rtol=tolerance)
    assert keras.backend.standardize_dtype(model.reader.embedding.embeddings.dtype) == "float32"


def test_settings_go_before_the_config(tmp_path):
    saved("GPT2LMHeadModel", tmp_path)
    model, _ = load_huggingface(tmp_path, dropout=0.25, name="mine", implementation="plain")
    assert (model.dropout, model.name, model.implementation) == (0.25, "mine", "plain")
    assert (model.attention_dropout, model.epsilon, model.feed_forward_dim) == (0.1, 1e-5, F)


def test_another_head_begins_with_new_weights_on_the_blocks_of_theirs(tmp_path, inputs):
    theirs = ask_bert(saved("BertForMaskedLM", tmp_path), inputs)
    model, _ = load_huggingface(tmp_path, head="tokens", num_classes=7)
    assert tuple(model(inputs).shape) == (B, T, 7)
    is_there = inputs["ids"] != 0
    close(numpy(model.hidden_states(**inputs)[-1])[is_there], theirs.hidden_states[-1][is_there])


def test_what_a_new_head_has_in_the_file_is_taken(tmp_path):
    theirs = saved("BertForPreTraining", tmp_path)
    model, _ = load_huggingface(tmp_path, head="sequence", num_classes=7)
    close(model.get_layer("pooler").bias, theirs.bert.pooler.dense.bias.detach())


def test_names_of_older_files_are_known(tmp_path, inputs):
    theirs = ask_bert(saved("BertForMaskedLM", tmp_path), inputs)

    def older(tensors):
        for name in list(tensors):
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[new] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = np.arange(MAX)[None]
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()

    rewrite(tmp_path, older)
    model, _ = load_huggingface(tmp_path)
    close(numpy(model(inputs))[0], theirs.logits[0])


# What does not fit
def drop(name):
    return lambda tensors: tensors.pop(name)


def add(name, *shape):
    return lambda tensors: tensors.update({name: np.zeros(shape, "float32")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop("transformer.h.1.mlp.c_fc.weight"),
            r"Missing: h.1.mlp.c_fc.weight \(12, 17\). Of .*: none. Left over: none",
        ),
        (drop("transformer.h.0.attn.c_attn.bias"), r"Missing: h.0.attn.c_attn.bias \(36,\). Of another"),
        (add("transformer.h.2.ln_1.weight", 12), r"Missing: none. .*Left over: transformer.h.2.ln_1.weight \(12,\)"),
        (
            add("transformer.wpe.weight", 7, 12),
            r"Of another shape: transformer.wpe.weight \(7, 12\) where positions/embeddings needs \(23, 12\)",
        ),
    ],
    ids=["missing", "missing_once", "left_over", "shape"],
)
def test_tensors_that_do_not_fit_are_told_with_their_shapes(tmp_path, change, message):
    saved("GPT2LMHeadModel", tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(ValueError, match=message) as raised:
        load_huggingface(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_a_head_that_is_not_there_is_told(tmp_path):
    saved("BertForSequenceClassification", tmp_path)
    rewrite(tmp_path, drop("classifier.weight"))
    with pytest.raises(ValueError, match=r"Missing: classifier.weight \(2, 12\)"):
        load_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("GPT2Model", {"model_type": "llama"}, "`model_type` in config.json must be one of 'bert', 'gpt2'.*'llama'"),
        (
            "GPT2Model",
            {"activation_function": "mish"},
            "`activation_function` in config.json must be one of gelu, .*'mish'",
        ),
        ("GPT2Model", {"scale_attn_by_inverse_layer_idx": True}, "our model knows False only. Received: True"),
        ("GPT2Model", {"add_cross_attention": True}, "Of `add_cross_attention`"),
        ("BertModel", {"position_embedding_type": "relative_key"}, "knows 'absolute' only. Received: 'relative_key'"),
        ("BertModel", {"is_decoder": True}, "Of `is_decoder`"),
        ("BertModel", {"pad_token_id": 1}, "Of `pad_token_id`.*knows 0 only"),
        ("BertForMaskedLM", {"tie_word_embeddings": False}, "Of `tie_word_embeddings`"),
    ],
)
def test_what_our_models_do_not_do_is_refused(tmp_path, kind, change, message):
    saved(kind, tmp_path)
    rewrite(tmp_path, lambda config: config.update(change), "config.json")
    with pytest.raises(ValueError, match=message):
        load_huggingface(tmp_path)


def test_a_config_without_a_size_is_refused(tmp_path):
    saved("GPT2Model", tmp_path)
    rewrite(tmp_path, lambda config: config.pop("n_head"), "config.json")
    with pytest.raises(ValueError, match=r"must tell the model's sizes. Received: .*without 'n_head'"):
        load_huggingface(tmp_path)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path):
    saved("BertModel", tmp_path)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"w{i}" for i in range(IDS - 5))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert load_huggingface(tmp_path)[1].vocabulary_size == IDS
    (tmp_path / "vocab.txt").write_text("\n".join([*words, "more"]))
    with pytest.raises(ValueError, match="a tokenizer of 30 ids and a model of 29"):
        load_huggingface(tmp_path)
