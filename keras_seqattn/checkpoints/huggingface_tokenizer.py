"""Our tokenizers from the files of Hugging Face's."""

from pathlib import Path

from keras_seqattn.checkpoints.safetensors_source import read_json
from keras_seqattn.text import BytePairTokenizer, WordPieceTokenizer

FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")
SETTINGS = ("special_tokens_map.json", "tokenizer_config.json")
# From our roles to theirs, and the tokens that play them where no file tells.
WORDPIECE_ROLES = {
    "start": ("cls_token", "[CLS]"),
    "end": ("sep_token", "[SEP]"),
    "pad": ("pad_token", "[PAD]"),
    "unknown": ("unk_token", "[UNK]"),
    "mask": ("mask_token", "[MASK]"),
}
BYTE_PAIR_ROLES = {
    "start": ("bos_token", "<|endoftext|>"),
    "end": ("eos_token", "<|endoftext|>"),
    "pad": ("pad_token", None),
    "unknown": ("unk_token", "<|endoftext|>"),
}
OPTIONAL = ("pad", "mask")


def has_tokenizer(folder):
    """Whether there is a file to read a tokenizer from."""
    return any((Path(folder) / name).is_file() for name in FILES)


def read_tokenizer(folder):
    """The tokenizer in a folder.

    Raises: FileNotFoundError when the files are not there; ValueError when they are of a tokenizer that we do not have.
    """
    folder = Path(folder)
    settings = {}
    for name in SETTINGS:
        if (folder / name).is_file():
            settings.update(read_json(folder / name))
    if (folder / "tokenizer.json").is_file():
        return from_tokenizer_json(folder / "tokenizer.json", settings)
    added = read_json(folder / "added_tokens.json") if (folder / "added_tokens.json").is_file() else {}
    added = [{"content": token, "id": i} for token, i in added.items()]
    added += [{**token, "id": int(i)} for i, token in settings.get("added_tokens_decoder", {}).items()]
    if (folder / "vocab.txt").is_file():
        with open(
            folder / "vocab.txt", encoding="utf-8"
        ) as file:  # a line may hold what `splitlines` takes for its end
            vocabulary = {line.rstrip("\n"): i for i, line in enumerate(file)}
        options = {
            "lowercase": settings.get("do_lower_case", True),
            "strip_accents": settings.get("strip_accents"),
            "tokenize_chinese_chars": settings.get("tokenize_chinese_chars", True),
        }
        return wordpiece(folder / "vocab.txt", vocabulary, added, settings, options)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
        options = {"add_prefix_space": settings.get("add_prefix_space", False)}
        return byte_pair(folder / "vocab.json", read_json(folder / "vocab.json"), merges, added, settings, options)
    there = [name for name in FILES if (folder / name).is_file()]
    raise FileNotFoundError(
        "A tokenizer is read from tokenizer.json, from vocab.txt, or from vocab.json and merges.txt. "
        f"Received: {folder}, where of these there is {', '.join(there) or 'none'}."
    )


def from_tokenizer_json(path, settings):
    """The tokenizer that the library `tokenizers` wrote."""
    content = read_json(path)
    model, normalizer, cutter = (content.get(part) or {} for part in ("model", "normalizer", "pre_tokenizer"))
    added = content.get("added_tokens") or []
    kind = model.get("type") or ("BPE" if "merges" in model else None)  # older files do not name it
    if kind == "WordPiece":
        must_be(path, "the normalizer", normalizer.get("type"), "BertNormalizer", None)
        must_be(path, "the pre-tokenizer", cutter.get("type"), "BertPreTokenizer")
        must_be(path, "what pieces inside a word begin with", model.get("continuing_subword_prefix"), "##")
        options = {
            "lowercase": normalizer.get("lowercase", False),
            "strip_accents": normalizer.get("strip_accents"),
            "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", False),
            "clean_text": normalizer.get("clean_text", False),
            "max_word_length": model.get("max_input_chars_per_word", 100),
        }
        return wordpiece(path, model["vocab"], added, {"unk_token": model.get("unk_token"), **settings}, options)
    if kind == "BPE":
        must_be(path, "the normalizer", normalizer.get("type"), None)
        must_be(path, "the pre-tokenizer", cutter.get("type"), "ByteLevel")
        must_be(path, "the pre-tokenizer's `use_regex`", cutter.get("use_regex", True), True)
        for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
            must_be(path, f"the model's `{option}`", model.get(option) or None, None)
        merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        options = {"add_prefix_space": cutter.get("add_prefix_space", False)}
        return byte_pair(path, model["vocab"], merges, added, settings, options)
    raise ValueError(
        f"The tokenizers that we have are of the types WordPiece and BPE. Received: {path} of type {kind!r}."
    )


def wordpiece(path, vocabulary, added, settings, options):
    """BERT's tokenizer from ids by token, added tokens and settings."""
    for token in added:
        must_be(path, f"of {token['content']!r} `single_word`", token.get("single_word", False), False)
        # Whether such a token is found depends on capitals and accents.
        is_plain = token.get("special", True) or not token.get("normalized", False)
        must_be(path, f"of {token['content']!r} `normalized`", not is_plain, False)
    vocabulary = by_id(path, vocabulary, added)
    others = [token["content"] for token in added]
    roles = tokens_by_role(WORDPIECE_ROLES, settings, vocabulary)
    return WordPieceTokenizer(vocabulary, **options, **roles, special_tokens=others)


def byte_pair(path, vocabulary, merges, added, settings, options):
    """GPT-2's tokenizer from ids by token, merges, added tokens and settings."""
    for token in added:
        for option in ("single_word", "lstrip", "rstrip"):
            must_be(path, f"of {token['content']!r} `{option}`", token.get(option, False), False)
    vocabulary = by_id(path, vocabulary, added)
    others = [token["content"] for token in added]
    roles = tokens_by_role(BYTE_PAIR_ROLES, settings, vocabulary)
    return BytePairTokenizer(vocabulary, merges, **options, **roles, special_tokens=others, keep_special_tokens=True)


def by_id(path, vocabulary, added):
    """The tokens in the order of their ids, from ids by token."""
    ids = {**vocabulary, **{token["content"]: token["id"] for token in added}}
    tokens = sorted(ids, key=ids.get)
    wrong = next((i for i, token in enumerate(tokens) if ids[token] != i), None)
    if wrong is not None:
        raise ValueError(
            "The ids of a tokenizer must count from 0, each of them given once. "
            f"Received: {path}, where {tokens[wrong]!r} has id {ids[tokens[wrong]]} and should have {wrong}."
        )
    return tokens


def tokens_by_role(roles, settings, vocabulary):
    """The arguments that tell which special token is which."""
    known = set(vocabulary)
    found = {}
    for role, (name, usual) in roles.items():
        token = settings.get(name, usual)
        token = token["content"] if isinstance(token, dict) else token  # with its options
        found[role] = None if role in OPTIONAL and token not in known else token
    # What begins a text also ends one, and stands for what is not known, when there is nothing of its own for that.
    first = found["end"] or found["start"]
    return {f"{role}_token": token if role in OPTIONAL else token or first for role, token in found.items()}


def must_be(path, what, value, *known):
    """Raises ValueError unless `value` is one that our tokenizers know."""
    if value not in known:
        expected = " or ".join(map(repr, known))
        raise ValueError(f"In a tokenizer that we can read, {what} is {expected}. Received: {path} with {value!r}.")
