"""Manifests are valid, and say nothing that the platform does not know."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from rf_platform.bundle.signature import read_public_keys

MANIFESTS = Path(__file__).parents[2] / "infra" / "kubernetes"
OVERLAYS = ("small", "production", "several-hosts")
OF_OPERATORS = {"ServiceMonitor", "PyTorchJob"}
"""Kinds without a schema in Kubernetes itself."""

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, for `kubectl kustomize`")


@cache
def built(overlay: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / "overlays" / overlay)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of workloads with their pods."""

    def within(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if "containers" in value:
                yield value
            for each in value.values():
                yield from within(each)

    for document in built(overlay):
        for pod in within(document):
            yield f"{document['kind']}/{document['metadata']['name']}", pod


def commands(pod: dict[str, Any]) -> Iterator[list[str]]:
    """Command lines of ``rf`` in a pod: of containers, probes and hooks."""
    for container in pod["containers"]:
        yield [*container.get("command", []), *container.get("args", [])]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" in container.get(probe, {}):
                yield container[probe]["exec"]["command"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_built_fits_the_schemas(overlay: str) -> None:
    import kubernetes_validate

    documents = built(overlay)
    assert documents
    for document in documents:
        if document["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(document, "1.33", strict=True)


def test_a_fault_would_be_found() -> None:
    import kubernetes_validate

    document = next(each for each in built("small") if each["kind"] == "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**document, "spec": {**document["spec"], "replica": 2}}, "1.33", strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_command_is_one(overlay: str, command_line: Callable[[list[str]], None]) -> None:
    seen = 0
    for name, pod in pods(overlay):
        for words in commands(pod):
            start = words.index("rf_platform.cli") if words[0] == "torchrun" else 0
            assert words[0] in ("rf", "torchrun"), name
            command_line([word.replace("$(PART)", "0") for word in words[start + 1 :]])
            seen += 1
    assert seen
    with pytest.raises(Exception, match="No such option"):
        command_line(["serve", "--no-such-option"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_one_and_names_fit(overlay: str, variables: set[str]) -> None:
    """Names of maps and secrets that pods read are made by the overlay, or named in its first comment."""
    documents = built(overlay)
    text = (MANIFESTS / "overlays" / overlay / "kustomization.yaml").read_text()
    made = {(each["kind"], each["metadata"]["name"]) for each in documents}
    if overlay == "several-hosts":  # beside another one
        made |= {(each["kind"], each["metadata"]["name"]) for each in built("production")}
    for document in documents:
        if document["kind"] in ("ConfigMap", "Secret"):
            names = [name for name in {**document.get("data", {}), **document.get("stringData", {})} if "." not in name]
            assert {name for name in names if name.startswith("RF_")} <= variables
    for name, pod in pods(overlay):
        for container in pod["containers"]:
            assert {each["name"] for each in container.get("env", [])} - {"PART"} <= variables, name
            for source in container["envFrom"]:
                for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    assert key not in source or (kind, source[key]["name"]) in made
            mounted = {each["name"] for each in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["volumes"]}, name
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in text
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_more_rights_than_they_need(overlay: str) -> None:
    for name, pod in pods(overlay):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"], name
            assert not rights["allowPrivilegeEscalation"], name
            assert rights["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name


def test_a_pod_has_time_to_drain() -> None:
    for overlay in ("small", "production"):
        (pod,) = (pod for name, pod in pods(overlay) if name == "Deployment/rf-serve")
        (container,) = pod["containers"]
        drain = next(float(word.partition("=")[2]) for word in container["args"] if word.startswith("--drain-seconds="))
        wait = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert wait + drain < pod["terminationGracePeriodSeconds"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert f"--port={ports['grpc']}" in container["args"]
        assert f"--metrics-port={ports['metrics']}" in container["args"]


@pytest.mark.parametrize("overlay", ["small", "production"])
def test_the_console_asks_for_a_token_and_reaches_the_servers(overlay: str) -> None:
    documents = {(each["kind"], each["metadata"]["name"]): each for each in built(overlay)}
    (pod,) = (pod for name, pod in pods(overlay) if name == "Deployment/rf-console")
    (container,) = pod["containers"]
    tokens = next(word.partition("=")[2] for word in container["args"] if word.startswith("--tokens="))
    assert any(tokens.startswith(f"{mount['mountPath']}/") for mount in container["volumeMounts"])
    (port,) = container["ports"]
    assert f"--port={port['containerPort']}" in container["args"]
    secured = any(word.startswith("--tls-cert=") for word in container["args"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/healthz"
        assert container[probe]["httpGet"].get("scheme", "HTTP") == ("HTTPS" if secured else "HTTP")
    labels = documents["Deployment", "rf-console"]["spec"]["template"]["metadata"]["labels"].items()
    assert documents["Service", "rf-console"]["spec"]["selector"].items() <= labels
    entries = documents["NetworkPolicy", "rf-serve"]["spec"]["ingress"]
    open_to_it = {
        entry["ports"][0]["port"]
        for entry in entries
        for each in entry["from"]
        if "podSelector" in each and each["podSelector"]["matchLabels"].items() <= labels
    }
    assert open_to_it == {50051, 9090}
    address = next(word.partition("=")[2] for word in container["args"] if word.startswith("--address="))
    assert address.partition(".")[0].partition(":")[0] == documents["Service", "rf-serve"]["metadata"]["name"]


def test_production_is_protected() -> None:
    (console,) = (pod for name, pod in pods("production") if name == "Deployment/rf-console")
    asked = " ".join(console["containers"][0]["args"])
    assert "--insecure" not in asked
    for option in ("--tls-cert=", "--tls-key=", "--tokens="):
        assert option in asked
    (pod,) = (pod for name, pod in pods("production") if name == "Deployment/rf-serve")
    words = " ".join(pod["containers"][0]["args"])
    assert "--insecure" not in words
    for option in ("--tls-cert=", "--tls-key=", "--tokens=", "--require-signature="):
        assert option in words
    assert read_public_keys(MANIFESTS / "overlays" / "production" / "release.pub")
