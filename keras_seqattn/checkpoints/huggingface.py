"""Models and tokenizers of Hugging Face: BERT and GPT-2, from a folder or by the name that they have on the hub."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_seqattn.checkpoints.huggingface_tokenizer import FILES, SETTINGS, has_tokenizer, read_tokenizer
from keras_seqattn.checkpoints.safetensors_source import INDEX, WEIGHTS, SafetensorsSource, listed, read_json
from keras_seqattn.models import GPT, Bert

CONFIG = "config.json"
# What of a hub's repository is fetched: it often holds the same weights in other formats too.
WANTED = (CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors", *FILES, *SETTINGS, "added_tokens.json")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# From their names of functions to ours; "gelu" is the exact one, here and there.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
QUERY_KEY_VALUE = ("query", "key", "value")
ENDINGS = {"embeddings": "weight", "kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
# From the path of a layer of ours to the name of theirs; # is the number of a block.
BERT_LAYERS = {
    "embedding": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "segments": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "block_#/self_attention/query": "encoder.layer.#.attention.self.query",
    "block_#/self_attention/key": "encoder.layer.#.attention.self.key",
    "block_#/self_attention/value": "encoder.layer.#.attention.self.value",
    "block_#/self_attention/attention_output": "encoder.layer.#.attention.output.dense",
    "block_#/self_attention_norm": "encoder.layer.#.attention.output.LayerNorm",
    "block_#/feed_forward/inner": "encoder.layer.#.intermediate.dense",
    "block_#/feed_forward/outer": "encoder.layer.#.output.dense",
    "block_#/feed_forward_norm": "encoder.layer.#.output.LayerNorm",
    "words_dense": "cls.predictions.transform.dense",
    "words_norm": "cls.predictions.transform.LayerNorm",
    "words_bias": "cls.predictions",
    "pooler": "pooler.dense",
    "classes": "classifier",
}
BERT_HEADS = {  # from their classes to our `head`
    "BertModel": None,
    "BertForMaskedLM": "masked_words",
    "BertForPreTraining": "masked_words",
    "BertForSequenceClassification": "sequence",
    "BertForTokenClassification": "tokens",
}
BERT_HEAD_LAYERS = {
    None: (),
    "masked_words": ("words_dense", "words_norm", "words_bias"),
    "sequence": ("pooler", "classes"),
    "tokens": ("classes",),
}
# Tensors without a place in a model that may well be in its file: constants, copies, other heads.
BERT_IGNORED = re.compile(r"embeddings\.position_ids|(pooler|cls|classifier|qa_outputs)\..*")
GPT_LAYERS = {
    "embedding": "wte",
    "positions": "wpe",
    "block_#/self_attention/query": "h.#.attn.c_attn",
    "block_#/self_attention/key": "h.#.attn.c_attn",
    "block_#/self_attention/value": "h.#.attn.c_attn",
    "block_#/self_attention/attention_output": "h.#.attn.c_proj",
    "block_#/self_attention_norm": "h.#.ln_1",
    "block_#/feed_forward/inner": "h.#.mlp.c_fc",
    "block_#/feed_forward/outer": "h.#.mlp.c_proj",
    "block_#/feed_forward_norm": "h.#.ln_2",
    "last_norm": "ln_f",
}
GPT_IGNORED = re.compile(r"h\.\d+\.attn\.(masked_)?bias|lm_head\.weight")


class Tensor(NamedTuple):
    """The tensor that a variable comes from.

    Attributes:
        name: str.
        shape: tuple.
        make: from the tensor to the variable's value.
    """

    name: str
    shape: tuple
    make: Callable


def load_huggingface(source, **settings):
    """A model and its tokenizer, from what `save_pretrained` of `transformers` has written.

        model_type "bert"     `Bert` and `WordPieceTokenizer`
        model_type "gpt2"     `GPT` and `BytePairTokenizer`

    Given the same ids, the model computes what theirs does.

    Args:
        source: a folder; or a name on the hub, such as "bert-base-uncased", whose files are fetched and kept.
        **settings: arguments of the model that shall differ from what config.json says, such as `dropout`, `dtype` or
            `implementation`. A `head` and its `num_classes` that the checkpoint does not have begin with new weights.
    Returns: the model, and the tokenizer; None for a tokenizer when the folder has no file of one.
    Raises: FileNotFoundError when there is no such folder, or a file is not in it; ValueError when the model is of
        another type, has options that ours lacks, a tensor is missing, left over or of another shape, or the tokenizer
        has more ids than the model.
    Example:
        >>> load_huggingface("./nowhere")
        Traceback (most recent call last):
        FileNotFoundError: `source` must be a folder, or a name on the hub such as ... Received: source='./nowhere'.
    """
    folder = find_folder(source)
    config = read_config(folder)
    kind = MODELS[config["model_type"]]
    weights = SafetensorsSource(folder)
    names = {canonical(name, kind.prefix): name for name in weights.shapes}
    try:
        model, optional = kind.read(config, {name: weights.shapes[names[name]] for name in names}, settings)
    except KeyError as error:
        raise ValueError(f"{CONFIG} must tell the model's sizes. Received: {folder}, without {error}.") from error
    fill(model, kind, optional, weights, names)
    tokenizer = read_tokenizer(folder) if has_tokenizer(folder) else None
    if tokenizer is not None and tokenizer.vocabulary_size > model.vocabulary_size:
        raise ValueError(
            "The tokenizer must fit the model, which has a vector for each of its ids. Received: a tokenizer of "
            f"{tokenizer.vocabulary_size} ids and a model of {model.vocabulary_size}, in {folder}."
        )
    return model, tokenizer


def load_huggingface_tokenizer(source):
    """A tokenizer alone, from the files of one of `transformers`.

    Args:
        source: as of `load_huggingface`. There must be tokenizer.json; or vocab.txt, as of BERT; or vocab.json and
            merges.txt, as of GPT-2.
    Returns: `WordPieceTokenizer` or `BytePairTokenizer`, which give the same ids.
    Raises: FileNotFoundError when the files are not there; ValueError when they are of another kind.
    """
    return read_tokenizer(find_folder(source))


def find_folder(source):
    """The folder that `source` is, or the one to which its files were fetched from the hub."""
    if not isinstance(source, str | os.PathLike):
        raise ValueError(f"`source` must be a path or a name on the hub. Received: {source=}.")
    folder = Path(source)
    if folder.is_dir():
        return folder
    rule = "`source` must be a folder, or a name on the hub such as 'bert-base-uncased' or 'openai-community/gpt2'."
    if folder.exists() or not isinstance(source, str) or not HUB_NAME.fullmatch(source):
        raise FileNotFoundError(f"{rule} Received: source={str(source)!r}.")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"There is no folder {source!r}, and a model is fetched from the hub with the huggingface_hub library. "
            "Install it with: pip install 'keras_seqattn[checkpoints]'."
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=list(WANTED)))
    except (OSError, ValueError, RuntimeError) as error:  # what it raises without a network, and for unknown names
        raise FileNotFoundError(
            f"{rule} Received: {source=}, which is no folder, and could not be fetched: {type(error).__name__}: {error}"
        ) from error


def read_config(folder):
    """The object in a folder's config.json, of a type that we have."""
    if not (folder / CONFIG).is_file():
        there = sorted(path.name for path in folder.iterdir())
        raise FileNotFoundError(f"A model's folder must hold {CONFIG}. Received: {folder} with {listed(there)}.")
    config = read_json(folder / CONFIG)
    if config.get("model_type") not in MODELS:
        raise ValueError(
            f"`model_type` in {CONFIG} must be one of {', '.join(map(repr, MODELS))}. "
            f"Received: {config.get('model_type')!r} in {folder}."
        )
    return config


def read_bert(config, shapes, settings):
    """A `Bert` with new weights, and those of its layers that the checkpoint need not have."""
    only(config, "position_embedding_type", "absolute")
    only(config, "is_decoder", False)
    only(config, "add_cross_attention", False)
    only(config, "pad_token_id", 0)
    told = next((BERT_HEADS[name] for name in config.get("architectures") or () if name in BERT_HEADS), None)
    head = settings.get("head", told)
    if head == "masked_words":
        only(config, "tie_word_embeddings", True)
    classes = {}
    if head in ("sequence", "tokens") and head == told:
        classes = {"num_classes": shapes.get("classifier.bias", (len(config.get("id2label", (0, 1))),))[0]}
    model = Bert(
        **{
            "vocabulary_size": config["vocab_size"],
            "max_length": config["max_position_embeddings"],
            "model_dim": config["hidden_size"],
            "num_layers": config["num_hidden_layers"],
            "num_heads": config["num_attention_heads"],
            "feed_forward_dim": config["intermediate_size"],
            "num_segments": config["type_vocab_size"],
            "head": head,
            **classes,
            "activation": activation(config, "hidden_act"),
            "epsilon": config["layer_norm_eps"],
            "dropout": config["hidden_dropout_prob"],
            "attention_dropout": config["attention_probs_dropout_prob"],
            **settings,
        }
    )
    return model, () if head == told else BERT_HEAD_LAYERS[head]


def read_gpt(config, shapes, settings):
    """A `GPT` with new weights, whose layers are all in the checkpoint."""
    only(config, "add_cross_attention", False)
    only(config, "scale_attn_weights", True)
    only(config, "scale_attn_by_inverse_layer_idx", False)
    model = GPT(
        **{
            "vocabulary_size": config["vocab_size"],
            "max_length": config["n_positions"],
            "model_dim": config["n_embd"],
            "num_layers": config["n_layer"],
            "num_heads": config["n_head"],
            "feed_forward_dim": config.get("n_inner"),
            "activation": activation(config, "activation_function"),
            "epsilon": config["layer_norm_epsilon"],
            "dropout": config["resid_pdrop"],
            "attention_dropout": config["attn_pdrop"],
            "tie_output": config.get("tie_word_embeddings", True),
            **settings,
        }
    )
    return model, ()


def bert_tensor(name, path, shape):
    """PyTorch's Linear keeps its kernel as (outputs, inputs), all heads in a row."""
    if not path.endswith("/kernel"):
        return Tensor(name, in_a_row(path, shape), lambda array: array.reshape(shape))
    axes = 2 if path.endswith("/attention_output/kernel") else 1  # of the inputs
    inputs, outputs = int(np.prod(shape[:axes])), int(np.prod(shape[axes:]))
    return Tensor(name, (outputs, inputs), lambda array: array.T.reshape(shape))


def gpt_tensor(name, path, shape):
    """GPT-2 keeps its kernels as (inputs, outputs), and those of query, key and value side by side."""
    layer, _, kind = path.rpartition("/")
    part = layer.rpartition("/")[2]
    if kind == "reverse_embeddings":
        return Tensor("lm_head.weight", shape[::-1], lambda array: array.T)
    if part in QUERY_KEY_VALUE:
        *inputs, width = (*shape[:-2], shape[-2] * shape[-1])
        first = QUERY_KEY_VALUE.index(part) * width
        return Tensor(name, (*inputs, 3 * width), lambda array: array[..., first : first + width].reshape(shape))
    return Tensor(name, in_a_row(path, shape), lambda array: array.reshape(shape))


def in_a_row(path, shape):
    """A variable's shape with its heads in a row: (H, K) as H * K."""
    part = path.split("/")[-2]
    if part in QUERY_KEY_VALUE:
        return (*shape[:-2], shape[-2] * shape[-1])
    return (shape[0] * shape[1], *shape[2:]) if part == "attention_output" and len(shape) > 1 else shape


class Kind(NamedTuple):
    """A type of model.

    Attributes:
        read: from config.json, the shapes of the tensors and what the user wants otherwise to our model with new
            weights, and the layers of it that need no tensors.
        tensor: from the name of a tensor, the path of the variable that it belongs to, and its shape, to a `Tensor`.
        layers: dict from our layers to theirs.
        prefix: of the names of a model with a head, except those of the head.
        ignored: what else there may be.
    """

    read: Callable
    tensor: Callable
    layers: dict
    prefix: str
    ignored: re.Pattern


MODELS = {
    "bert": Kind(read_bert, bert_tensor, BERT_LAYERS, "bert.", BERT_IGNORED),
    "gpt2": Kind(read_gpt, gpt_tensor, GPT_LAYERS, "transformer.", GPT_IGNORED),
}


def fill(model, kind, optional, weights, names):
    """Gives the variables of a model their values, when all are there and nothing is left over.

    Args:
        model: the model.
        kind: `Kind`.
        optional: layers of the model that keep their values where there are no tensors for them.
        weights: `SafetensorsSource`.
        names: dict from names without prefix to those in `weights`.
    """
    plan, missing, unlike = [], [], []
    for variable in model.weights:
        layer, _, ending = variable.path.rpartition("/")
        number = next(iter(re.findall(r"block_(\d+)/", layer)), "")
        name = kind.layers[layer.replace(f"block_{number}/", "block_#/")].replace("#", number)
        tensor = kind.tensor(f"{name}.{ENDINGS.get(ending, ending)}", variable.path, tuple(variable.shape))
        if tensor.name in names:
            shape = weights.shapes[names[tensor.name]]
            if shape != tensor.shape:
                unlike.append(f"{names[tensor.name]} {shape} where {variable.path} needs {tensor.shape}")
            plan.append((variable, tensor))
        elif layer not in optional:
            missing.append(f"{tensor.name} {tensor.shape}")
    used = {tensor.name for _, tensor in plan}
    left = [
        f"{names[name]} {weights.shapes[names[name]]}"
        for name in sorted(names.keys() - used)
        if not kind.ignored.fullmatch(name)
    ]
    if missing or unlike or left:
        raise ValueError(
            f"The tensors must be those of the model that {CONFIG} tells of. Received: {weights.folder}. "
            f"Missing: {listed(dict.fromkeys(missing))}. Of another shape: {listed(unlike)}. Left over: {listed(left)}."
        )
    for variable, tensor in plan:
        variable.assign(np.asarray(tensor.make(weights.take(names[tensor.name])), "float32"))


def canonical(name, prefix):
    """A tensor's name without what differs from file to file."""
    name = name.removeprefix(prefix)
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda found: f"LayerNorm.{ENDINGS[found[1]]}", name)


def activation(config, key):
    """Our name of the function that `config[key]` names."""
    if config[key] not in ACTIVATIONS:
        raise ValueError(f"`{key}` in {CONFIG} must be one of {', '.join(ACTIVATIONS)}. Received: {config[key]!r}.")
    return ACTIVATIONS[config[key]]


def only(config, key, value):
    """Raises ValueError where a config asks for what our model does not do."""
    if config.get(key, value) != value:
        raise ValueError(f"Of `{key}` in {CONFIG}, our model knows {value!r} only. Received: {config[key]!r}.")
