"""systemd, docker and kubectl: their command lines, word by word, against transcripts (no such daemon runs in the tests)."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from perfloop.change.base import ChangeContext
from perfloop.change.kinds import docker_limits, kubernetes_resources, systemd_dropin
from perfloop.errors import ChangeRefused, UndoFailed
from perfloop.model.change import Safety
from perfloop.model.config import Config
from perfloop.model.finding import Proposal
from services.transcripts import Transcript, answers, path_with, player, said


@pytest.fixture
def where(tmp_path: Path) -> ChangeContext:
    (tmp_path / "images").mkdir()
    return ChangeContext(tmp_path, Config(), str, "staging", tmp_path / "images")


def there_and_back(kind: ModuleType, params: dict[str, Any], where: ChangeContext) -> Any:
    change = kind.plan(Proposal(kind=kind.ID, title="", params=params), where)
    assert change.safety == Safety.ASK
    assert kind.read(change, where) == change.before
    kind.undo(change, where)
    kind.apply(change, where, lambda note: None)
    assert kind.verify(change, where)
    for _ in range(2):
        kind.undo(change, where)
        assert kind.verify_undone(change, where)
    return change


def docker(cpus: int, quota: int, memory: int, swap: int) -> str:
    return answers(NanoCpus=cpus, CpuQuota=quota, CpuPeriod=0, Memory=memory, MemorySwap=swap)


INSPECT = "inspect --type container --format '{{json .HostConfig}}' shop"
GIB = 2**30


def docker_transcript(old: str, new: str, foreign: str, there: str, back: str) -> Transcript:
    return {
        "old": {INSPECT: (0, old, "old"), there: (0, "shop\n", "new")},
        "new": {INSPECT: (0, new, "new"), back: (0, "shop\n", "old")},
        "foreign": {INSPECT: (0, foreign, "foreign")},
    }


@pytest.mark.parametrize(
    ("params", "old", "new", "there", "back"),
    [
        ({"cpu": 2}, docker(10**9, 0, 0, 0), docker(2 * 10**9, 0, 0, 0), "update --cpus=2 shop", "update --cpus=1 shop"),
        ({"cpu": 1.5}, docker(0, 0, 0, 0), docker(0, 150_000, 0, 0), "update --cpu-period=100000 --cpu-quota=150000 shop", "update --cpu-period=100000 --cpu-quota=-1 shop"),
        ({"memory": "1Gi"}, docker(0, 0, GIB // 2, GIB), docker(0, 0, GIB, GIB + GIB // 2),
         f"update --memory={GIB} --memory-swap={GIB + GIB // 2} shop", f"update --memory={GIB // 2} --memory-swap={GIB} shop"),
    ],
)  # fmt: skip
def test_docker(
    tmp_path: Path, where: ChangeContext, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], old: str, new: str, there: str, back: str
) -> None:
    programs = tmp_path / "bin"
    state = player(programs, "docker", docker_transcript(old, new, docker(3 * 10**9, 1, 1, 1), there, back), "old")
    monkeypatch.setenv("PATH", path_with(programs))
    change = there_and_back(docker_limits, {"container": "shop", **params}, where)
    assert [line for line in said(programs, "docker") if line.startswith("update")] == [there, back]
    assert (change.params["command"], change.undo_commands[0]) == (f"docker {there}", f"docker {back}")
    state.write_text("new")
    state.write_text("foreign")
    with pytest.raises(UndoFailed):
        docker_limits.undo(change, where)
    assert state.read_text() == "foreign"


@pytest.mark.parametrize("params", [{"cpu": 65}, {"memory": "64Mi"}, {}, {"cpu": 0.01}])
def test_docker_keeps_the_bounds(tmp_path: Path, where: ChangeContext, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]) -> None:
    player(tmp_path / "bin", "docker", {"old": {INSPECT: (0, docker(0, 0, 0, 0), "old")}}, "old")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    with pytest.raises(ChangeRefused):
        docker_limits.plan(Proposal(kind="docker-limits", title="", params={"container": "shop", **params}), where)


def deployment(resources: dict[str, Any], replicas: int = 2) -> str:
    return answers(
        kind="Deployment", spec={"replicas": replicas, "template": {"spec": {"containers": [{"name": "side"}, {"name": "app", "resources": resources}]}}}
    )


def test_kubectl_patches_with_a_test_of_the_old_value(tmp_path: Path, where: ChangeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = {"limits": {"cpu": "1", "memory": "512Mi"}}, {"limits": {"cpu": "2", "memory": "512Mi"}}
    path = "/spec/template/spec/containers/1/resources"

    def patch(one: dict[str, Any], other: dict[str, Any]) -> str:
        document = [{"op": "test", "path": path, "value": one}, {"op": "replace", "path": path, "value": other}]
        return f"patch deployment/shop -n web --type=json -p '{json.dumps(document, separators=(',', ':'))}'"

    get, rollout = "get deployment/shop -n web -o json", "rollout status deployment/shop -n web --timeout=240s"
    conflict = (1, "The request is invalid: the server rejected our request due to an error in our request\n", "new")
    state = player(
        tmp_path / "bin",
        "kubectl",
        {
            "old": {
                get: (0, deployment(old), "old"),
                patch(old, new): (0, "deployment.apps/shop patched\n", "new"),
                rollout: (0, "successfully rolled out\n", "old"),
            },
            "new": {
                get: (0, deployment(new), "new"),
                patch(new, old): (0, "deployment.apps/shop patched\n", "old"),
                rollout: (0, "successfully rolled out\n", "new"),
            },
            "stalled": {
                get: (0, deployment(new), "stalled"),
                rollout: (1, "error: deployment exceeded its progress deadline\n", "stalled"),
                patch(new, old): conflict,
            },
            "foreign": {get: (0, deployment({"limits": {"cpu": "3"}}), "foreign")},
        },
        "old",
    )
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    params = {"workload": "deployment/shop", "namespace": "web", "container": "app", "resources": {"limits": {"cpu": "2"}}}
    change = there_and_back(kubernetes_resources, params, where)
    assert change.restarts
    state.write_text("stalled")
    assert not kubernetes_resources.verify(change, where)
    with pytest.raises(UndoFailed):
        kubernetes_resources.undo(change, where)  # the API server refuses: its test failed
    state.write_text("foreign")
    with pytest.raises(UndoFailed, match="could not undo"):
        kubernetes_resources.undo(change, where)
    for bad in ({"limits": {"cpu": "65"}}, {"limits": {"memory": "1Mi"}}, {"limits": {"gpu": "1"}}):
        state.write_text("old")
        with pytest.raises(ChangeRefused):
            kubernetes_resources.plan(Proposal(kind="x", title="", params={**params, "resources": bad}), where)


def test_systemd_reloads_and_restarts_and_takes_its_drop_in_away(tmp_path: Path, where: ChangeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    show, active = "show shop.service --property LimitNOFILE --value", "show shop.service --property ActiveState --value"
    both = {"daemon-reload": (0, "", "loaded"), "restart shop.service": (0, "", "old"), active: (0, "active\n", "old"), show: (0, "1024\n", "old")}
    states: Transcript = {
        "old": both,
        "loaded": {"restart shop.service": (0, "", "new")},
        "new": {show: (0, "65536\n", "new"), active: (0, "active\n", "new"), "daemon-reload": (0, "", "unloaded")},
        "unloaded": {"restart shop.service": (0, "", "old")},
    }
    state = player(tmp_path / "bin", "systemctl", states, "old")
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))
    root = tmp_path / "systemd"
    root.mkdir()
    params = {"unit": "shop.service", "setting": "LimitNOFILE", "value": "65536", "root": str(root)}
    change = there_and_back(systemd_dropin, params, where)
    assert list(root.iterdir()) == []
    assert [line for line in said(tmp_path / "bin", "systemctl") if "show" not in line] == ["daemon-reload", "restart shop.service"] * 2
    systemd_dropin.apply(change, where, lambda note: None)
    drop_in = root / "shop.service.d" / "90-perfloop-limitnofile.conf"
    assert drop_in.read_text() == "# made by perfloop\n[Service]\nLimitNOFILE=65536\n"
    drop_in.write_text("[Service]\nLimitNOFILE=70000\n")
    with pytest.raises(UndoFailed):
        systemd_dropin.undo(change, where)
    assert "70000" in drop_in.read_text()
    assert state.read_text() == "new"
    for bad in ("ExecStart", "User", "CapabilityBoundingSet"):
        with pytest.raises(ChangeRefused):
            systemd_dropin.plan(Proposal(kind="x", title="", params={**params, "setting": bad}), where)
