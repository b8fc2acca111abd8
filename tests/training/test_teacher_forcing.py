import pytest

from keras_seqattn.training.teacher_forcing import teacher_forcing


@pytest.mark.parametrize("steps", [10, 3000])
@pytest.mark.parametrize("final", [0.25, 0.9])
@pytest.mark.parametrize("kind", ["linear", "exponential", "inverse_sigmoid"])
def test_it_falls_from_all_right_words_to_the_share_that_is_wanted_at_the_end(kind, final, steps):
    schedule = teacher_forcing(kind, final, steps)
    shares = [float(schedule(step)) for step in range(0, steps + 1, steps // 10)]
    assert shares[-1] == pytest.approx(final, abs=0.01)
    assert shares[0] > 0.9 * max(1, final) if steps == 3000 else shares[0] > final
    assert sorted(shares, reverse=True) == shares


def test_always_is_always_and_a_share_out_of_range_is_refused():
    assert teacher_forcing("always", 0.5, 100) == 1
    assert teacher_forcing("linear", 1.0, 100) == 1
    with pytest.raises(ValueError, match="`final_teacher_forcing` is a share above 0 and at most 1. Received: final=0"):
        teacher_forcing("linear", 0, 100)
