import numpy as np
import pytest
from rich.cells import cell_len

from keras_seqattn.inspection import alignment_text


def test_a_row_an_answer_token_and_a_column_a_source_token():
    text = alignment_text(["a", "b"], ["B", "A"], [[0.0, 1.0], [0.9, 0.1]])
    assert text.splitlines() == ["  a b", "B   █", "A █"]


@pytest.mark.parametrize(
    ("score", "shade"),
    [(0.0, ""), (0.19, ""), (0.2, "░"), (0.4, "▒"), (0.6, "▓"), (0.8, "█"), (1.0, "█"), (1.0000001, "█"), (-1e-7, "")],
)
def test_more_attention_is_a_darker_shade(score, shade):
    assert alignment_text(["a"], ["b"], [[score]]).splitlines()[1] == f"b {shade}".rstrip()


@pytest.mark.parametrize("score", [-0.5, -7.0, 7.0, np.inf, -np.inf, np.nan])
def test_a_score_out_of_range_is_drawn_as_the_nearest_one(score):
    row = alignment_text(["a"], ["b"], [[score]]).splitlines()[1]
    assert row == ("b █" if score > 1 else "b")


def test_padding_is_left_out():
    attention = np.zeros((3, 4))
    attention[0, 1] = 1
    padded = alignment_text(["a", "b", "", ""], ["x", "", ""], attention)
    assert padded == alignment_text(["a", "b"], ["x"], attention[:1, :2])


def test_an_empty_token_between_others_keeps_its_column():
    lines = alignment_text(["a", "", "b"], ["x", "", "y"], np.eye(3)).splitlines()
    assert lines == ["  a   b", "x █", "    █", "y     █"]


def test_no_tokens_give_an_empty_table():
    assert alignment_text([], [], np.zeros((0, 0))).split() == []
    assert alignment_text(["a"], [], np.zeros((0, 1))).split() == ["a"]
    assert alignment_text([], ["x"], np.zeros((1, 0))).split() == ["x"]


# As many columns as a terminal uses: what stands behind the token must begin in the same place on each line.
WORDS = {
    "Latin": ("month", 5),
    "accents of their own": ("e\u0301te\u0301", 3),
    "Chinese": ("月曜日", 6),
    "full width": ("Ａ１", 4),
    "half width": ("ｱｲ", 2),
    "Hebrew with points": ("שָׁלוֹם", 4),
    "Arabic": ("سلام", 4),
    "Hindi with vowel signs": ("मंगल", 3),
    "Thai with vowel signs": ("วันที่", 3),
    "a variant of a sign": ("\u2764\ufe0e", 1),
    "Korean in parts": ("\u1112\u1161\u11ab", 2),
}


@pytest.mark.parametrize(("token", "width"), WORDS.values(), ids=WORDS)
def test_columns_stand_below_their_tokens_in_any_script(token, width):
    lines = alignment_text([token, "b"], ["x", token], [[0, 1], [1, 0]]).splitlines()
    margin = " " * width
    assert cell_len(lines[0]) == width + 1 + width + 2
    assert cell_len(token) == width
    assert lines[0].startswith(margin + " " + token)
    assert cell_len(lines[1]) == width + 1 + width + 2  # `x`, and a shade below `b`
    assert lines[1].startswith("x") and lines[1].endswith("█")
    assert lines[2].startswith(token) and cell_len(lines[2]) == width + 2


def test_neighbours_written_from_right_to_left_keep_the_order_of_their_columns():
    """A terminal that turns such text round would turn two such words round together, were there no mark between."""
    header, *rows = alignment_text(["שלום", "עולם", "a"], ["مرحبا", "b"], np.eye(3)[:2]).splitlines()
    assert header.split() == ["שלום\u200e", "עולם\u200e", "a"]
    assert rows[0].startswith("مرحبا\u200e ")
    assert rows[1].startswith("b ")
    assert "\u200e" not in alignment_text(["a", "月"], ["b"], [[0.5, 0.5]])


def test_scores_may_be_any_kind_of_array():
    scores = np.array([[0.0, 1.0]], "float16")
    assert alignment_text(["a", "b"], ["x"], scores) == alignment_text(["a", "b"], ["x"], scores.tolist())


def test_fewer_scores_than_tokens_raise():
    for attention in ([[0.1]], [], np.zeros((1, 1)), np.zeros((0, 2))):
        with pytest.raises(ValueError, match=r"`attention` needs a row for each answer token.*Received: .*\(1, 2\)"):
            alignment_text(["a", "b"], ["x"], attention)
