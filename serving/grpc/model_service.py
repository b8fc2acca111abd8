"""`tensorflow.serving.ModelService`: GetModelStatus and HandleReloadConfigRequest."""

from collections.abc import Mapping
from typing import Any

from keras_seqattn.serving.errors import Code, ServingError
from keras_seqattn.serving.grpc.calls import Call, Method
from keras_seqattn.serving.models import model_config
from keras_seqattn.serving.models.model_info import model_status
from keras_seqattn.serving.models.repository import ModelRepository
from keras_seqattn.serving.optional import packages_of_extra

__all__ = ["MODEL_SERVICE", "ModelService"]

MODEL_SERVICE = "tensorflow.serving.ModelService"


class ModelService:
    """Answers the two RPCs from a repository.

    Args:
        repository: the models.
        enable_reload: lets clients replace the models, by paths of their choice; else PERMISSION_DENIED.
    """

    def __init__(self, repository: ModelRepository, *, enable_reload: bool = False) -> None:
        with packages_of_extra("serving"):
            from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

        self._repository = repository
        self._enable_reload = enable_reload
        self._reload_response = model_management_pb2.ReloadConfigResponse
        self.methods: Mapping[str, Method] = {
            "GetModelStatus": Method(get_model_status_pb2.GetModelStatusRequest, self._status),
            "HandleReloadConfigRequest": Method(model_management_pb2.ReloadConfigRequest, self._reload),
        }

    def _status(self, request: Any, call: Call) -> Any:
        if not request.HasField("model_spec"):
            raise ServingError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
        spec = request.model_spec
        call.model = spec.name
        if spec.WhichOneof("version_choice") == "version":  # a label is ignored
            call.version = spec.version.value
        return model_status(self._repository, spec.name, call.version)

    def _reload(self, request: Any, call: Call) -> Any:
        if not self._enable_reload:
            raise ServingError(
                Code.PERMISSION_DENIED,
                "HandleReloadConfigRequest is off: it loads models from paths that the client names. Whoever starts "
                "the server can enable it.",
            )
        if request.config.WhichOneof("config") != "model_config_list":
            raise ServingError(
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported",
            )
        configs = model_config.configs_from_proto(request.config)
        self._repository.reload(configs, timeout_seconds=call.timeout_seconds)
        return self._reload_response(status={"error_code": int(Code.OK)})
