"""Rules of docs/serving-contract.md about models on disk, warm-up and batching that have no better place."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_seqattn.serving import BatchingParameters, ModelConfig, ModelRepository, ServingError, VersionPolicy
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.loading import saved_model_loader
from keras_seqattn.serving.models.batching import BatchedServable
from keras_seqattn.serving.models.model_config import read_config_file
from tests.serving.conftest import write_scaling_model
from tests.serving.test_repository import Shop, serving, states

PINNED = VersionPolicy("specific", versions=(3,))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.rule("change.available")
def test_of_several_unwanted_versions_the_highest_stays_until_a_wanted_one_serves(shop: Shop) -> None:
    shop.add("1", "2", "3")
    shop.broken.add("3")
    repository = shop.repository(VersionPolicy("specific", versions=(1, 2)))
    repository.poll()
    repository.set_configs([ModelConfig("m", str(shop.folder), PINNED)])
    repository.poll()
    assert states(repository) == {3: "END", 2: "AVAILABLE", 1: "END"}
    assert serving(repository) == 2


@pytest.mark.rule("change.available")
def test_of_several_new_versions_the_highest_is_loaded_first(shop: Shop) -> None:
    shop.add("7", "10", "9")
    shop.repository(VersionPolicy("all")).poll()
    assert shop.loaded == ["10", "9", "7"]


@pytest.mark.rule("versions.none-yet", "policy.versions")
def test_what_is_missing_is_warned_about(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    repository = shop.repository(PINNED)
    with caplog.at_level(logging.WARNING):
        repository.poll()
    assert f"no version in {shop.folder} yet" in caplog.text
    assert f"version 3 is asked for but not in {shop.folder}" in caplog.text
    shop.add("1")
    repository.poll()
    assert shop.loaded == []
    shop.add("3")
    repository.poll()
    assert serving(repository) == 3


@pytest.mark.rule("versions.base-path-missing")
def test_a_missing_base_path_stops_the_look_at_the_other_models_too(shop: Shop, tmp_path: Path) -> None:
    configs = [ModelConfig("m", str(shop.folder)), ModelConfig("n", str(tmp_path / "n"))]
    repository = ModelRepository(configs, shop.load)
    shop.add("1")
    repository.poll()
    assert shop.loaded == []
    (tmp_path / "n").mkdir()
    repository.poll()
    assert serving(repository) == 1


@pytest.mark.rule("labels.pointers")
def test_a_label_keeps_no_version(shop: Shop) -> None:
    shop.add("1")
    repository = shop.repository()
    repository.poll()
    repository.set_configs([ModelConfig("m", str(shop.folder), VersionPolicy(), {"stable": 1})])
    shop.add("2")
    repository.poll()
    assert states(repository) == {2: "AVAILABLE", 1: "END"}
    with pytest.raises(ServingError, match=r"Specific\(m, 1\)"), repository.lease("m", label="stable"):
        pass


@pytest.mark.rule("reload.file")
def test_a_reload_leaves_the_config_file_alone(shop: Shop, tmp_path: Path) -> None:
    shop.add("1")
    file = tmp_path / "models.config"
    file.write_text(
        f"model_config_list {{ config {{ name: 'm' base_path: '{shop.folder}' model_platform: 'tensorflow' }} }}"
    )
    before = file.read_bytes()
    repository = ModelRepository(read_config_file(file)[0], shop.load)
    repository.poll()
    repository.reload([ModelConfig("n", str(shop.folder))], timeout_seconds=20)
    assert repository.names() == ["n"]
    assert file.read_bytes() == before


def write_records(folder: Path, *records: bytes) -> None:
    import tensorflow as tf

    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for record in records:
            writer.write(record)


def predict_log(value: float) -> bytes:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    request = {"model_spec": {"name": "another"}, "inputs": {"x": tf.make_tensor_proto([value])}}
    serialized: bytes = prediction_log_pb2.PredictionLog(predict_log={"request": request}).SerializeToString()
    return serialized


@pytest.mark.rule("warmup.failures", "warmup.other-kinds")
@pytest.mark.parametrize(
    ("log", "code", "message"),
    [
        (b"\xff\xff\xff", Code.INVALID_ARGUMENT, "Failed to parse warmup record"),
        ({"predict_streamed_log": {}}, Code.UNIMPLEMENTED, "Unsupported log_type for warmup"),
        ({"session_run_log": {}}, Code.UNIMPLEMENTED, "Unsupported log_type for warmup"),
    ],
)
def test_a_record_that_cannot_be_replayed_makes_the_load_fail(
    tmp_path: Path, log: bytes | Mapping[str, Any], code: Code, message: str
) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    record = log if isinstance(log, bytes) else prediction_log_pb2.PredictionLog(**log).SerializeToString()
    write_records(write_scaling_model(tmp_path / "m" / "1", 2.0), predict_log(1.0), record)
    repository = ModelRepository([ModelConfig("m", str(tmp_path / "m"))], saved_model_loader(), max_num_load_retries=0)
    repository.poll()
    (status,) = repository.statuses("m")
    assert status.error is not None
    assert (status.state, status.error.code) == ("END", code)
    assert message in status.error.message
    repository.close()


@pytest.mark.rule("warmup.failures", "warmup.file")
def test_a_thousand_records_are_not_too_many_and_none_are_fine(tmp_path: Path) -> None:
    folder = write_scaling_model(tmp_path / "1", 2.0)
    saved_model_loader()(str(folder), "m").close()
    write_records(folder, *[predict_log(1.0)] * 1000)
    saved_model_loader()(str(folder), "m").close()
    write_records(folder, *[predict_log(1.0)] * 1001)
    with pytest.raises(ServingError, match="exceeds the maximum"):
        saved_model_loader()(str(folder), "m")


@pytest.mark.rule("batching.per-model")
def test_a_version_is_batched_by_its_own_file_or_not_at_all(tmp_path: Path) -> None:
    folder = write_scaling_model(tmp_path / "1", 2.0)
    common = BatchingParameters(max_batch_size=2)
    three = {"x": np.float32([1, 2, 3])}
    for own, per_model, is_batched, largest in (
        (None, False, True, 2),
        (None, True, False, None),
        ("max_batch_size { value: 3 }", True, True, 3),
        ("max_batch_size { value: 3 }", False, True, 2),
    ):
        (folder / "batching_params.pbtxt").unlink(missing_ok=True)
        if own is not None:
            (folder / "batching_params.pbtxt").write_text(own)
        servable = saved_model_loader(batching=common, per_model_batching=per_model)(str(folder), "m")
        assert isinstance(servable, BatchedServable) == is_batched
        if largest == 2:
            with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
                servable.run("serving_default", three)
        else:
            assert servable.run("serving_default", three)["y"].tolist() == [2, 4, 6]
        servable.close()
