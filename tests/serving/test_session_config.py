"""The flags of a model's session: section 10 of the contract."""

from pathlib import Path

import numpy as np
import pytest

from keras_seqattn.serving import ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.servable import load_saved_model
from keras_seqattn.serving.models.session_config import session_config


@pytest.mark.rule("flags.session-threads")
def test_threads_are_set_one_by_one_or_together() -> None:
    """Section 10: --tensorflow_session_parallelism stands for the other two."""
    both = session_config(session_parallelism=3)
    assert (both.intra_op_parallelism_threads, both.inter_op_parallelism_threads) == (3, 3)
    own = session_config(intra_op_parallelism=1, inter_op_parallelism=2)
    assert (own.intra_op_parallelism_threads, own.inter_op_parallelism_threads) == (1, 2)


@pytest.mark.rule("flags.session-threads")
def test_not_all_three_of_them() -> None:
    """Section 10: `--tensorflow_session_parallelism`, `..._intra_op_...`, `..._inter_op_...` (not all three)."""
    with pytest.raises(ServingError, match="but not both") as raised:
        session_config(session_parallelism=3, inter_op_parallelism=2)
    assert raised.value.code == Code.INVALID_ARGUMENT


@pytest.mark.rule("flags.session-config")
def test_a_file_says_it_all(tmp_path: Path) -> None:
    """Section 10: --tensorflow_session_config_file."""
    file = tmp_path / "session.config"
    file.write_text("intra_op_parallelism_threads: 2 gpu_options { allow_growth: true }")
    config = session_config(intra_op_parallelism=7, config_file=file)
    assert config.intra_op_parallelism_threads == 2
    assert config.gpu_options.allow_growth
    file.write_text("unheard_of: 3")
    with pytest.raises(ServingError, match="Error parsing text-format tensorflow.ConfigProto"):
        session_config(config_file=file)
    with pytest.raises(ServingError, match="Cannot read the session config file") as raised:
        session_config(config_file=tmp_path / "none")
    assert raised.value.code == Code.NOT_FOUND


def test_a_model_runs_with_it(models: Path) -> None:
    servable = load_saved_model(models / "half_plus_two" / "2", session_config=session_config(session_parallelism=1))
    assert servable.run("serving_default", {"x": np.float32([2])})["y"].tolist() == [3]
    servable.close()
