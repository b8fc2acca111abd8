"""Answers to the test part, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_seqattn.text import TextToText
from keras_seqattn.training.data.splits import Pair


def answers(answering: TextToText, texts: Sequence[str], batch_size: int = 128) -> list[str]:
    """The answer to each text; texts of like length share a batch, so that little is padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = [""] * len(texts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = answering([texts[i] for i in rows])["answer"].numpy()
        for i, answer in zip(rows, batch, strict=True):
            found[i] = answer.decode("utf-8", "replace")
    return found


def exact_match(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Share of answers that are the wanted ones to the letter."""
    return sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)


def sacrebleu(found: Sequence[str], wanted: Sequence[str]) -> dict[str, Any]:
    """Corpus BLEU in points (0 to 100) by the sacrebleu library, and the signature that says how it counted."""
    metric = load_sacrebleu().metrics.BLEU()
    return {
        "sacrebleu": round(metric.corpus_score(list(found), [list(wanted)]).score, 2),
        "sacrebleu_signature": str(metric.get_signature()),
    }


def tokenized_bleu(found: Sequence[str], wanted: Sequence[str], language: str) -> dict[str, Any]:
    """Corpus BLEU in points of lower-cased texts that Moses's rules cut into words, as much of the literature scores.

    Not to be compared with `sacrebleu`, which keeps the case and cuts by rules of its own.
    """
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    normalizer, tokenizer = MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)

    def words(texts: Sequence[str]) -> list[str]:
        return [tokenizer.tokenize(normalizer.normalize(text.lower()), return_str=True, escape=False) for text in texts]

    metric = load_sacrebleu().metrics.BLEU(tokenize="none", force=True)  # told that the texts are tokenized
    score = metric.corpus_score(words(found), [words(wanted)]).score
    return {"tokenized_lowercase_bleu": round(score, 2)}


def load_sacrebleu() -> Any:
    """The module `sacrebleu`, or an ImportError that names the extra, for it and for sacremoses."""
    try:
        import sacrebleu
        import sacrebleu.metrics
        import sacremoses  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "BLEU is measured by the libraries sacrebleu and sacremoses. Install them with: "
            "pip install 'keras_seqattn[metrics]'."
        ) from error
    return sacrebleu


def evaluate(
    answering: TextToText,
    pairs: Sequence[Pair],
    scores: Sequence[Callable[[Sequence[str], Sequence[str]], dict[str, Any]]] = (),
) -> dict[str, Any]:
    """`test_pairs`, `exact_match`, and the figures of `scores`, over `pairs`."""
    found = answers(answering, [source for source, _ in pairs])
    wanted = [target for _, target in pairs]
    figures: dict[str, Any] = {"test_pairs": len(pairs), "exact_match": round(exact_match(found, wanted), 5)}
    for score in scores:
        figures.update(score(found, wanted))
    return figures
