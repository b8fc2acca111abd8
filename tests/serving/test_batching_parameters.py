"""The text proto of `--batching_parameters_file`: section 12 of the contract."""

import os
from pathlib import Path
from typing import Any

import pytest

from keras_seqattn.serving import ServingError
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.batching_parameters import (
    BatchingParameters,
    parameters_for_version,
    read_batching_parameters,
)


def written(folder: Path, text: str, name: str = "batching.txt") -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.rule("batching.parameters")
def test_every_setting_is_read(tmp_path: Path) -> None:
    """Section 12: `x { value: n }` for most, `allowed_batch_sizes: n` repeated, `pad_variable_length_inputs: true`."""
    file = written(
        tmp_path,
        """# a comment
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 2000 }
        max_enqueued_batches { value: 100 }
        num_batch_threads { value: 8 }
        thread_pool_name { value: "shared" }
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 32 }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 32
        pad_variable_length_inputs: true""",
    )
    assert read_batching_parameters(file) == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=2000,
        max_enqueued_batches=100,
        num_batch_threads=8,
        thread_pool_name="shared",
        enable_large_batch_splitting=True,
        max_execution_batch_size=32,
        allowed_batch_sizes=(8, 32),
        pad_variable_length_inputs=True,
    )


@pytest.mark.rule("batching.parameters")
def test_what_is_left_out_has_the_defaults_of_tensorflow_serving(tmp_path: Path) -> None:
    """Section 12: batches of up to 1000 rows, no waiting, ten batches in the queue, a thread for each core."""
    parameters = read_batching_parameters(written(tmp_path, ""))
    assert (parameters.max_batch_size, parameters.batch_timeout_micros) == (1000, 0)
    assert (parameters.max_enqueued_batches, parameters.num_batch_threads) == (10, os.cpu_count())
    assert parameters.execution_size == 1000


def test_a_setting_of_zero_is_not_left_out(tmp_path: Path) -> None:
    file = written(tmp_path, "max_batch_size { value: 2 } batch_timeout_micros { value: 0 }")
    assert read_batching_parameters(file).batch_timeout_micros == 0
    with pytest.raises(ServingError, match="num_batch_threads must be positive; was 0"):
        read_batching_parameters(written(tmp_path, "num_batch_threads { value: 0 }"))


@pytest.mark.parametrize("text", ["max_batch_size: 3", "unheard_of { value: 3 }", "max_batch_size {"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ServingError, match="text-format tensorflow.serving.BatchingParameters") as raised:
        read_batching_parameters(file)
    assert raised.value.code == Code.INVALID_ARGUMENT


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="Cannot read the batching parameters file .*batching.txt") as raised:
        read_batching_parameters(tmp_path / "batching.txt")
    assert raised.value.code == Code.NOT_FOUND


@pytest.mark.rule("batching.sizes")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size must be positive; was 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
        ({"max_enqueued_batches": 0}, "max_enqueued_batches must be positive; was 0"),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (4, 4, 8)},
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (2, 4)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            {
                "max_batch_size": 8,
                "allowed_batch_sizes": (2, 8),
                "enable_large_batch_splitting": True,
                "max_execution_batch_size": 4,
            },
            "Last entry in allowed_batch_sizes must be equal to max_execution_batch_size; last entry was 8; expected 4",
        ),
        (
            {"max_batch_size": 8, "enable_large_batch_splitting": True, "max_execution_batch_size": 16},
            "max_batch_size must be greater than or equal to max_execution_batch_size",
        ),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(settings: dict[str, Any], message: str) -> None:
    """Section 12: increasing; the last is max_batch_size, or max_execution_batch_size with splitting."""
    with pytest.raises(ServingError) as raised:
        BatchingParameters(**settings)
    assert raised.value.code == Code.INVALID_ARGUMENT
    assert message in raised.value.message


@pytest.mark.rule("batching.per-model")
def test_each_version_may_bring_its_own(tmp_path: Path) -> None:
    """Section 12: per model, `batching_params.pbtxt` in the version directory; without it, no batching."""
    common = BatchingParameters(max_batch_size=7)
    written(tmp_path, "max_batch_size { value: 3 }", "batching_params.pbtxt")
    assert parameters_for_version(str(tmp_path), common) is common
    own = parameters_for_version(str(tmp_path), common, per_model=True)
    assert own == BatchingParameters(max_batch_size=3)
    assert parameters_for_version(str(tmp_path / "other"), common, per_model=True) is None
