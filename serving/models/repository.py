"""The models that are served: finds version folders, loads and unloads them, hands them out to requests.

A version folder is a child of the base path whose name is an integer, so one that is written beside, as
`.3.partial`, and renamed when whole is never seen half done.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from keras_seqattn.serving.errors import Code, ServingError, as_serving_error
from keras_seqattn.serving.models.model_config import ModelConfig, check_configs
from keras_seqattn.serving.models.servable import Servable

__all__ = ["Lease", "Loader", "ModelRepository", "VersionStatus"]

_LOG = logging.getLogger(__name__)

Loader = Callable[[str, str], Servable]
"""Makes a servable, warmed up, from the path of a version folder and the name of its model."""


@dataclass(frozen=True)
class VersionStatus:
    """Where a version stands: START, LOADING, AVAILABLE, UNLOADING or END, the last with the error if it failed."""

    version: int
    state: str
    error: ServingError | None = None


@dataclass(frozen=True)
class Lease:
    """A version that will stay loaded while it is leased."""

    name: str
    version: int
    servable: Servable


@dataclass
class _Version:
    """What the repository knows of one version."""

    number: int
    path: str
    state: str = "START"
    error: ServingError | None = None
    servable: Servable | None = None
    num_leases: int = 0
    retries_left: int = 0
    retry_at: float = 0.0  # seconds of the clock
    is_wanted: bool = True

    @property
    def has_failed(self) -> bool:
        return self.state == "END" and self.error is not None


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, _Version] = field(default_factory=dict)
    is_configured: bool = True

    def available(self) -> list[_Version]:
        return [version for version in self.versions.values() if version.state == "AVAILABLE"]

    def final_failure(self) -> _Version | None:
        """The lowest of the wanted versions, when none of them will ever load."""
        wanted = [version for version in self.versions.values() if version.is_wanted]
        if not wanted or not all(version.has_failed for version in wanted):
            return None
        return min(wanted, key=lambda version: version.number)


class ModelRepository:
    """Serves the versions that each model's policy wants.

    A newer version is loaded before the older one stops. One that fails to load leaves the older one serving, is tried
    again, and in the end stands in the status as END with its error.

    Args:
        configs: the models.
        loader: makes a servable from the path of a version folder and the model's name.
        poll_wait_seconds: between two looks at the folders; 0 looks once.
        max_num_load_retries: tries after the first that failed.
        load_retry_interval_seconds: between them.
        allow_labels_for_unavailable: lets a label that is not in use yet point to a version that is not available.
        clock: seconds that only grow; tests set their own.
    Raises: ServingError; INVALID_ARGUMENT when the configs break a rule, FAILED_PRECONDITION when one has labels (no
        version is available yet) and that is not allowed.
    """

    def __init__(
        self,
        configs: Iterable[ModelConfig],
        loader: Loader,
        *,
        poll_wait_seconds: float = 1.0,
        max_num_load_retries: int = 5,
        load_retry_interval_seconds: float = 60.0,
        allow_labels_for_unavailable: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        configs = check_configs(configs)
        self._loader = loader
        self._poll_wait_seconds = poll_wait_seconds
        self._max_num_load_retries = max_num_load_retries
        self._load_retry_interval_seconds = load_retry_interval_seconds
        self._clock = clock
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._lock = threading.Lock()  # guards what requests see
        self._poll_lock = threading.Lock()  # one poll at a time
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()  # warnings that would else come with each poll
        self._reload_lock = threading.Lock()  # one reload at a time, its waiting included
        self._models: dict[str, _Model] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}  # versions by model and label; replaced as a whole
        self._labels = self._checked_labels(configs)
        self._models = {config.name: _Model(config) for config in configs}

    @contextmanager
    def lease(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Lease]:
        """Lends a version to a request: the given or labelled one, or the highest that is available.

        Raises: ServingError; NOT_FOUND without such a version, INVALID_ARGUMENT for an unknown label.
        """
        with self._lock:
            if label is not None:
                version = self._labels.get(name, {}).get(label)
                if version is None:
                    raise ServingError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
            model = self._models.get(name)
            candidates = [] if model is None else model.available()
            if version is not None:
                candidates = [candidate for candidate in candidates if candidate.number == version]
            if not candidates:
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            chosen = max(candidates, key=lambda candidate: candidate.number)
            assert chosen.servable is not None
            lent = Lease(name, chosen.number, chosen.servable)
            chosen.num_leases += 1
        try:
            yield lent
        finally:
            with self._lock:
                chosen.num_leases -= 1
                is_last = chosen.num_leases == 0 and chosen.state == "UNLOADING"
            if is_last:
                self._close(chosen, name)

    def names(self) -> list[str]:
        """The models that are configured."""
        with self._lock:
            return [name for name, model in self._models.items() if model.is_configured]

    def labels(self, name: str) -> dict[str, int]:
        """The versions of a model by their labels."""
        with self._lock:
            return dict(self._labels.get(name, {}))

    def queue_depths(self) -> dict[str, int]:
        """Rows that wait for a batch, by model."""
        with self._lock:
            waiting = {
                name: [version.servable for version in model.versions.values() if version.servable is not None]
                for name, model in self._models.items()
            }
        return {name: sum(getattr(one, "queue_depth", 0) for one in found) for name, found in waiting.items()}

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """All versions that there are or were, the newest first, or the given one.

        Raises: ServingError, NOT_FOUND.
        """
        with self._lock:
            model = self._models.get(name)
            found = [] if model is None else sorted(model.versions.values(), key=lambda known: -known.number)
            statuses = [VersionStatus(known.number, known.state, known.error) for known in found]
        if version is not None:
            statuses = [status for status in statuses if status.version == version]
            if not statuses:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not statuses:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return statuses

    def set_configs(self, configs: Iterable[ModelConfig]) -> None:
        """Replaces labels at once, and the models at the next poll; those left out are unloaded.

        Raises: ServingError, and keeps the old ones; INVALID_ARGUMENT when the configs break a rule,
            FAILED_PRECONDITION when a label would point to a version that is not available.
        """
        configs = check_configs(configs)
        with self._lock:
            self._labels = self._checked_labels(configs)
        with self._poll_lock, self._lock:
            for model in self._models.values():
                model.is_configured = False
            for config in configs:
                model = self._models.setdefault(config.name, _Model(config))
                model.config, model.is_configured = config, True

    def reload(self, configs: Iterable[ModelConfig], timeout_seconds: float | None = None) -> None:
        """Replaces the models, and returns once each new one has an available version.

        Args:
            configs: all models from now on.
            timeout_seconds: to wait for the new ones; None waits for ever. What was changed stays so.
        Raises: ServingError; what `set_configs` raises, UNKNOWN when a new model finally does not load,
            DEADLINE_EXCEEDED after the timeout, CANCELLED when the repository is closed meanwhile.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._reload_lock:
            before = set(self.names())
            self.set_configs(configs)
            new = set(self.names()) - before
            self.poll()
            next_poll = time.monotonic() + self._poll_wait_seconds
            while True:
                with self._lock:
                    waiting = [model for name, model in self._models.items() if name in new and not model.available()]
                    failures = [(model.config.name, model.final_failure()) for model in waiting]
                failed = [
                    f"{{name: {name} version: {version.number} due to error: {version.error}}}, "
                    for name, version in failures
                    if version is not None
                ]
                if failed:
                    raise ServingError(
                        Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}"
                    )
                if not waiting:
                    return
                if deadline is not None and time.monotonic() >= deadline:
                    names = ", ".join(model.config.name for model in waiting)
                    raise ServingError(Code.DEADLINE_EXCEEDED, f"Still waiting for a version of these models: {names}")
                if self._stop.wait(0.02):
                    raise ServingError(Code.CANCELLED, "The server is stopping.")
                if time.monotonic() >= next_poll:
                    self._look_again()
                    next_poll = time.monotonic() + (self._poll_wait_seconds or 1.0)

    def poll(self) -> None:
        """Looks at the folders once, then loads and unloads what that asks for."""
        with self._poll_lock:
            try:
                wanted = {model.config.name: self._wanted(model) for model in self._models.values()}
            except OSError as error:  # as TensorFlow Serving does: one missing base path stops the look at all of them
                self._warn(f"Cannot look for versions in {error.filename}: {error.strerror}")
                return
            for name, paths in wanted.items():
                self._want(self._models[name], paths)
            self._load_and_unload()

    def start(self) -> None:
        """Polls in a thread from now on, until `close`."""
        self._thread = threading.Thread(target=self._poll_until_stopped, name="model-repository", daemon=True)
        self._thread.start()

    def wait_until_ready(self, is_cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Polls until each model has an available version, however long the first one takes to appear.

        Args:
            is_cancelled: asked several times a second.
        Returns: False when it was cancelled.
        Raises: ServingError when every wanted version of a model has finally failed, or when the folders are looked at
            once and hold no version.
        """
        looks_once = self._poll_wait_seconds <= 0
        while not is_cancelled():
            self.poll()
            with self._lock:
                waiting = [model for model in self._models.values() if model.is_configured and not model.available()]
                for model in waiting:
                    failed = model.final_failure()
                    if failed is not None:
                        assert failed.error is not None
                        raise ServingError(
                            failed.error.code,
                            f"Version {failed.number} of model {model.config.name} does not load: "
                            f"{failed.error.message}",
                        )
                    if looks_once and not model.versions:
                        raise ServingError(
                            Code.NOT_FOUND,
                            f"Model {model.config.name} has no version in {model.config.base_path}, and no look for "
                            "later ones is asked for.",
                        )
            if not waiting:
                return True
            deadline = time.monotonic() + (self._poll_wait_seconds if not looks_once else 0.2)
            while not is_cancelled() and time.monotonic() < deadline:
                time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))
        return False

    def close(self) -> None:
        """Stops polling and unloads everything as soon as no request uses it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._poll_lock:
            for model in self._models.values():
                for version in model.available():
                    self._unload(model, version)

    def _poll_until_stopped(self) -> None:
        while True:
            try:
                self._look_again()
            except Exception:  # the thread must outlive whatever a file system comes up with
                _LOG.exception("Looking for versions failed; trying again.")
            if self._stop.wait(self._poll_wait_seconds or 1.0):
                return

    def _look_again(self) -> None:
        """Polls; where the folders are looked at once, only tries again what did not load."""
        if self._poll_wait_seconds > 0:
            self.poll()
        else:
            with self._poll_lock:
                self._load_and_unload()

    def _checked_labels(self, configs: Iterable[ModelConfig]) -> dict[str, dict[str, int]]:
        """The labels of all models. Raises ServingError, FAILED_PRECONDITION."""
        labels: dict[str, dict[str, int]] = {}
        for config in configs:
            model = self._models.get(config.name)
            available = set() if model is None else {version.number for version in model.available()}
            in_use = self._labels.get(config.name, {})
            for label, version in config.labels.items():
                is_moved = in_use.get(label, version) != version
                if version not in available and (is_moved or not self._allow_labels_for_unavailable):
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {config.name}, which is not currently "
                        "available for inference",
                    )
                labels.setdefault(config.name, {})[label] = version
        return labels

    def _wanted(self, model: _Model) -> dict[int, str]:
        """The versions that the policy chooses, with their paths. Raises OSError without the base path."""
        if not model.is_configured:
            return {}
        config = model.config
        present = _version_folders(config.base_path)
        chosen = config.policy.choose(present)
        if not present:
            self._warn(f"Model {config.name}: no version in {config.base_path} yet.")
        for missing in sorted(set(config.policy.versions) - chosen):
            self._warn(f"Model {config.name}: version {missing} is asked for but not in {config.base_path}.")
        return {number: present[number] for number in chosen}

    def _want(self, model: _Model, paths: Mapping[int, str]) -> None:
        with self._lock:
            for number, path in paths.items():
                known = model.versions.get(number)
                # One that failed for good stays so until its folder has been away.
                if known is None or (known.state == "END" and not (known.has_failed and known.is_wanted)):
                    model.versions[number] = _Version(number, path, retries_left=self._max_num_load_retries)
            for number, version in model.versions.items():
                version.is_wanted = number in paths
                if not version.is_wanted and version.state in ("START", "LOADING"):
                    version.state = "END"  # gone before it was loaded

    def _load_and_unload(self) -> None:
        for model in self._models.values():
            for version in sorted(model.versions.values(), key=lambda known: -known.number):
                is_due = version.state == "START" or (version.state == "LOADING" and self._clock() >= version.retry_at)
                if version.is_wanted and is_due and not self._stop.is_set():
                    self._load(model, version)
                    self._unload_unwanted(model)
            self._unload_unwanted(model)

    def _load(self, model: _Model, version: _Version) -> None:
        name = model.config.name
        with self._lock:
            version.state = "LOADING"
        started = time.monotonic()
        try:
            servable = self._loader(version.path, name)
        except Exception as raised:
            error = as_serving_error(raised)
            with self._lock:
                retries_left, version.retries_left = version.retries_left, version.retries_left - 1
                if retries_left > 0:
                    version.retry_at = self._clock() + self._load_retry_interval_seconds
                else:
                    version.state, version.error = "END", error
            again = (
                f"trying again in {self._load_retry_interval_seconds:g} s, {retries_left} times at most"
                if retries_left > 0
                else "giving up"
            )
            _LOG.error("Model %s, version %d does not load, %s. %s", name, version.number, again, error)
            return
        with self._lock:
            version.servable, version.state = servable, "AVAILABLE"
        _LOG.info("Model %s, version %d is available after %.1f s.", name, version.number, time.monotonic() - started)

    def _unload_unwanted(self, model: _Model) -> None:
        """Keeps the model available: an unwanted version goes when a wanted one serves, or none is wanted at all."""
        available = model.available()
        unwanted = sorted((version for version in available if not version.is_wanted), key=lambda known: known.number)
        nothing_wanted = not any(version.is_wanted for version in model.versions.values())
        keep = 0 if nothing_wanted or len(unwanted) < len(available) else 1
        for version in unwanted[: len(unwanted) - keep]:
            self._unload(model, version)

    def _unload(self, model: _Model, version: _Version) -> None:
        with self._lock:
            version.state = "UNLOADING"
            is_free = version.num_leases == 0
        if is_free:
            self._close(version, model.config.name)

    def _close(self, version: _Version, name: str) -> None:
        servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
        with self._lock:
            version.state = "END"
        _LOG.info("Model %s, version %d is unloaded.", name, version.number)

    def _warn(self, message: str) -> None:
        """Warns once; the same message may come with every poll."""
        if message not in self._said:
            self._said.add(message)
            _LOG.warning(message)


def _version_folders(base_path: str) -> dict[int, str]:
    """Version folders by number; `00000123` is 123. Raises OSError when the base path is missing."""
    folders: dict[int, str] = {}
    for child in sorted(_children(base_path)):
        if re.fullmatch("[0-9]+", child) and int(child) < 2**63:
            folders[int(child)] = f"{base_path.rstrip('/')}/{child}"
    return folders


def _children(base_path: str) -> list[str]:
    if "://" not in base_path:
        with os.scandir(base_path) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    import tensorflow as tf

    try:
        return [child.rstrip("/") for child in tf.io.gfile.listdir(base_path)]
    except tf.errors.OpError as error:
        raise OSError(None, error.message, base_path) from error
