"""Sizes that have names."""

GPT = {
    "gpt2-small": {"model_dim": 768, "num_layers": 12, "num_heads": 12},
    "gpt2-medium": {"model_dim": 1024, "num_layers": 24, "num_heads": 16},
    "gpt2-large": {"model_dim": 1280, "num_layers": 36, "num_heads": 20},
    "gpt2-xl": {"model_dim": 1600, "num_layers": 48, "num_heads": 25},
}
BERT = {
    "bert-tiny": {"model_dim": 128, "num_layers": 2, "num_heads": 2},
    "bert-mini": {"model_dim": 256, "num_layers": 4, "num_heads": 4},
    "bert-small": {"model_dim": 512, "num_layers": 4, "num_heads": 8},
    "bert-medium": {"model_dim": 512, "num_layers": 8, "num_heads": 8},
    "bert-base": {"model_dim": 768, "num_layers": 12, "num_heads": 12},
    "bert-large": {"model_dim": 1024, "num_layers": 24, "num_heads": 16},
}
TRANSFORMER = {
    "transformer-tiny": {"model_dim": 128, "num_layers": 4, "num_heads": 4, "feed_forward_dim": 256},
    "transformer-base": {"model_dim": 512, "num_layers": 6, "num_heads": 8},
    "transformer-big": {"model_dim": 1024, "num_layers": 6, "num_heads": 16, "dropout": 0.3},
}


def sizes(presets, name):
    """A copy of the sizes under `name`, or a ValueError that lists the names."""
    if name not in presets:
        raise ValueError(f"`name` must be one of {', '.join(map(repr, presets))}. Received: {name=}.")
    return dict(presets[name])
