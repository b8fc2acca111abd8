"""The files of serving/deploy: valid by their schemas, true to the server, and in agreement with each other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from keras_seqattn.serving import parse_flags
from keras_seqattn.serving.errors import Code
from keras_seqattn.serving.models.batching_parameters import read_batching_parameters
from keras_seqattn.serving.models.model_config import read_config_file
from keras_seqattn.serving.monitoring.config import read_monitoring_config
from keras_seqattn.serving.monitoring.metrics import ServerMetrics
from keras_seqattn.serving.monitoring.record import RequestRecord
from keras_seqattn.serving.real_server import IMAGE

DEPLOY = Path(__file__).resolve().parents[2] / "serving" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
APART = ("kustomization", "prometheus-adapter")  # a list of the others, and values of a chart
MANIFESTS = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.stem not in APART]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/serving.json").read_text())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def manifest(name: str) -> Any:
    return load(KUBERNETES / f"{name}.yaml")


def container() -> Any:
    (only,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    return only


# Schemas


def test_the_compose_file_obeys_the_compose_specification() -> None:
    import check_jsonschema
    import jsonschema

    schema = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
    jsonschema.validate(load(DEPLOY / "compose.yaml"), json.loads(schema.read_text()))


@pytest.mark.parametrize("version", ["1.29", "1.33"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_obeys_the_schema_of_kubernetes(path: Path, version: str) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(load(path), version, strict=True)


def test_a_schema_refuses_what_is_wrong() -> None:
    """That the tests above can fail."""
    import kubernetes_validate

    wrong = manifest("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_kustomization_names_every_manifest() -> None:
    assert sorted(manifest("kustomization")["resources"]) == [path.name for path in MANIFESTS]


# What the server reads


def configurations() -> Iterator[tuple[str, str]]:
    for path in sorted(DEPLOY.glob("*.config")):
        yield path.name, path.read_text()
    yield from manifest("configuration")["data"].items()


@pytest.mark.parametrize(("name", "text"), list(configurations()))
def test_a_configuration_is_what_the_server_reads(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    if name == "models.config":
        configs, notes = read_config_file(file)
        assert [config.name for config in configs] == ["dates"]
        assert not notes
    elif name == "monitoring.config":
        config = read_monitoring_config(file)
        assert config.enable
        assert config.path == load(DEPLOY / "prometheus.yaml")["scrape_configs"][0]["metrics_path"]
    else:
        parameters = read_batching_parameters(file)
        assert parameters.max_batch_size == max(parameters.allowed_batch_sizes) == 64


def test_both_ways_start_the_server_with_flags_that_it_knows() -> None:
    for arguments in (container()["args"], load(DEPLOY / "compose.yaml")["services"]["serving"]["command"]):
        flags = parse_flags(arguments)
        assert not flags.unknown
        assert not flags.not_supported
        assert flags.enable_batching
        assert flags.model_config_file == "/config/models.config"


def test_one_image_everywhere() -> None:
    assert container()["image"] == IMAGE
    name, tag = IMAGE.split(":")
    assert load(DEPLOY / "compose.yaml")["services"]["serving"]["image"] == f"{name}:${{TENSORFLOW_SERVING_TAG:-{tag}}}"


# Agreement


def test_every_selector_chooses_the_pods() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifest("deployment")["spec"]["selector"]["matchLabels"],
        manifest("service")["spec"]["selector"],
        manifest("disruption-budget")["spec"]["selector"]["matchLabels"],
        manifest("network-policy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    target = manifest("autoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", manifest("deployment")["metadata"]["name"])
    assert {load(path)["metadata"].get("namespace", "serving") for path in MANIFESTS} == {"serving"}


def test_ports_and_volumes_fit() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    flags = parse_flags(container()["args"])
    assert ports == {"grpc": flags.port, "http": flags.rest_api_port}
    assert {port["targetPort"] for port in manifest("service")["spec"]["ports"]} == set(ports)
    spec = manifest("deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in container()["volumeMounts"]} == set(volumes)
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == manifest("models-volume")["metadata"]["name"]
    assert volumes["config"]["configMap"]["name"] == manifest("configuration")["metadata"]["name"]
    (named,) = {name for name in manifest("configuration")["data"]} & {"models.config"}
    assert flags.model_config_file.endswith(named)


def test_the_container_may_do_nothing_that_it_need_not() -> None:
    spec = manifest("deployment")["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert not spec["automountServiceAccountToken"]
    security = container()["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert manifest("network-policy")["spec"]["egress"] == []


def test_the_canary_of_the_configuration_has_both_labels() -> None:
    text = manifest("configuration")["data"]["models.config"]
    assert re.findall(r'key: "(\w+)" value: (\d)', text) == [("stable", "1"), ("canary", "2")]


# The dashboard


def queries() -> list[str]:
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    found += [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]
    adapter = load(KUBERNETES / "prometheus-adapter.yaml")["rules"]["custom"][0]
    found.append(
        adapter["metricsQuery"]
        .replace("<<.Series>>", ":tensorflow:serving:runtime_latency_sum")
        .replace("<<.LabelMatchers>>", 'namespace="serving"')
        .replace("<<.GroupBy>>", "pod")
    )
    return [query.replace("$__rate_interval", "1m").replace("$model", ".*") for query in found]


def exposed() -> set[str]:
    """The names that a server exposes after a request, a batch and a load of each kind."""
    metrics = ServerMetrics()
    metrics.on_request(RequestRecord(entrypoint="REST", api="Predict", model="dates", code=Code.OK, seconds=0.01))
    metrics.observe_run("dates", "serving_default", 0.01, 1)
    metrics.observe_batch("dates", 8, 2, 0.001)
    metrics.observe_load("/models/dates/1", True)
    metrics.observe_warmup("/models/dates/1", Code.OK, 0.1)
    lines = metrics.exposition().decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("query", queries())
def test_a_query_parses_and_asks_for_what_the_server_exposes(query: str) -> None:
    import promql_parser

    promql_parser.parse(query)
    names = set(re.findall(r":tensorflow[:\w]+", query))
    assert names <= exposed(), names - exposed()


def test_panels_do_not_overlap_and_each_says_what_it_shows() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["description"]
        cells |= mine
    datasource = load(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {datasource["uid"]}
