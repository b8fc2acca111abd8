"""How many threads a model's session may use, and whatever else TensorFlow lets be set."""

import os
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError

__all__ = ["session_config"]


def session_config(
    *,
    session_parallelism: int = 0,
    intra_op_parallelism: int = 0,
    inter_op_parallelism: int = 0,
    config_file: str | os.PathLike[str] = "",
    per_process_gpu_memory_fraction: float = 0.0,
) -> Any:
    """A `tensorflow.ConfigProto` from the flags of `tensorflow_model_server`.

    Args:
        session_parallelism: threads both inside an op and between ops; 0 lets TensorFlow decide.
        intra_op_parallelism: threads inside an op.
        inter_op_parallelism: threads between ops.
        config_file: a text proto `tensorflow.ConfigProto`; then the other arguments count for nothing.
        per_process_gpu_memory_fraction: of each GPU's memory; 0 lets TensorFlow decide.
    Raises: ServingError; NOT_FOUND without the file, INVALID_ARGUMENT when it is no such proto, or when
        `session_parallelism` comes together with one of the two that it stands for.
    """
    from google.protobuf import text_format
    from tensorflow.core.protobuf import config_pb2

    config = config_pb2.ConfigProto()
    if session_parallelism and (intra_op_parallelism or inter_op_parallelism):
        raise ServingError(
            Code.INVALID_ARGUMENT,
            "Either configure `tensorflow_session_parallelism` or "
            "(`tensorflow_intra_op_parallelism`, `tensorflow_inter_op_parallelism`) but not both.",
        )
    if config_file:
        try:
            with open(config_file, encoding="utf-8") as file:
                text_format.Parse(file.read(), config)
        except OSError as error:
            raise ServingError(
                Code.NOT_FOUND, f"Cannot read the session config file {config_file}: {error.strerror}"
            ) from None
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Error parsing text-format tensorflow.ConfigProto: {config_file}: {error}"
            ) from None
        return config
    config.intra_op_parallelism_threads = session_parallelism or intra_op_parallelism
    config.inter_op_parallelism_threads = session_parallelism or inter_op_parallelism
    config.gpu_options.per_process_gpu_memory_fraction = per_process_gpu_memory_fraction
    return config
