"""``kubernetes-resources``: requests and limits of a workload's container, or its replicas, by ``kubectl patch`` with a test: the API server itself compares and swaps.

Verified against a kubectl that plays replies written from its documentation, not against a cluster. Sources: kubectl reference, "patch" (JSON patch), RFC 6902 ("test"), "rollout status".
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from perfloop.change import cells, programs
from perfloop.change.base import ChangeContext, Note, hash_of, new_id
from perfloop.errors import CannotMeasure, ChangeRefused
from perfloop.model.change import Change, Safety
from perfloop.model.finding import Proposal
from perfloop.model.limits import parse_memory_bytes

ID = "kubernetes-resources"
OPERATION = "resource_limit_change"
ROLLOUT_MAX_S = 240
REPLICAS_MAX = 1_000
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
_KINDS = ("deployment", "statefulset", "daemonset")
_CPU = re.compile(r"^(\d+)m$|^(\d+(?:\.\d+)?)$")


def plan(proposal: Proposal, context: ChangeContext) -> Change:
    """Params: ``workload`` (``deployment/shop``), ``namespace``, and ``replicas``, or ``container`` with ``resources`` ({"limits": {"cpu": "2", "memory": "1Gi"}})."""
    wanted = proposal.params
    kind, _, name = str(wanted.get("workload", "")).partition("/")
    namespace = str(wanted.get("namespace") or "default")
    if kind not in _KINDS or not _NAME.match(name) or not _NAME.match(namespace):
        raise ChangeRefused(f"{wanted.get('workload')!r} is no workload", fix="write deployment/NAME, statefulset/NAME or daemonset/NAME")
    where = {"workload": f"{kind}/{name}", "namespace": namespace}
    document = _get(where)
    path, new = _path_and_value(document, wanted)
    old = _at(document, path)
    if old == new:
        raise ChangeRefused(f"{kind}/{name} has that already", why="there is nothing to change", fix="choose other values")
    rolls = path != "/spec/replicas"
    params = {**where, "path": path, "rolls": rolls}
    commands = [shlex.join(_patch(params, one, other)) for one, other in ((new, old), (old, new))]
    params |= {"command": commands[1], "rollback_command": commands[0]}
    return Change(
        id=new_id(),
        kind=ID,
        title=proposal.title or f"{kind}/{name} {path.rsplit('/', 1)[-1]}: {json.dumps(old)} → {json.dumps(new)}",
        params=params,
        before={"value": old},
        after={"value": new},
        live_hash=hash_of([path, old]),
        diff=f"-{path} {json.dumps(old)}\n+{path} {json.dumps(new)}",
        risk="its pods are replaced one after another" if rolls else "pods are started or ended",
        reach=f"{kind} {name} in {namespace}",
        safety=Safety.ASK,
        undo_commands=(commands[0], shlex.join(_rollout(params))),
        apply_commands=(commands[1], shlex.join(_rollout(params))),
        resources=(f"{kind}:{namespace}/{name}",),
        restarts=rolls,
        lint=("a controller (GitOps, an autoscaler) that owns this value will set it back",),
    )


def read(change: Change, context: ChangeContext) -> dict[str, Any]:
    """The value in the cluster now."""
    return cells.read([_cell(change)])


def apply(change: Change, context: ChangeContext, note: Note) -> None:
    """Patches it where the old value is still there, and waits for the rollout."""
    cells.apply(change, [_cell(change)], note)


def cancel(change: Change, backend: dict[str, Any], context: ChangeContext) -> None:
    """The API server carries a patch out whole or not at all; a rollout that runs is replaced by the next."""


def verify(change: Change, context: ChangeContext) -> bool:
    """True where the cluster says the new value and the rollout is complete."""
    return cells.holds([_cell(change)], change.after) and _complete(change.params)


def undo(change: Change, context: ChangeContext) -> None:
    """Patches it back where the live value is ours, and waits for the rollout."""
    cells.undo(change, [_cell(change)])
    _wait(change.params)


def verify_undone(change: Change, context: ChangeContext) -> bool:
    """True where the cluster says the old value and the rollout is complete."""
    return cells.holds([_cell(change)], change.before) and _complete(change.params)


def _cell(change: Change) -> cells.Cell:
    params = change.params

    def put(value: Any) -> None:
        other = change.after["value"] if value == change.before["value"] else change.before["value"]
        programs.run(_patch(params, other, value), fix="somebody may have changed it: kubectl get -o json")
        _wait(params)

    return cells.Cell("value", lambda: _at(_get(params), params["path"]), put)


def _path_and_value(document: dict[str, Any], wanted: dict[str, Any]) -> tuple[str, Any]:
    if "replicas" in wanted:
        count = int(wanted["replicas"])
        if not 1 <= count <= REPLICAS_MAX:
            raise ChangeRefused(f"{count} replicas are outside 1 to {REPLICAS_MAX}", fix="choose a number between them")
        return "/spec/replicas", count
    containers = document["spec"]["template"]["spec"]["containers"]
    names = [container["name"] for container in containers]
    if wanted.get("container") not in names or not isinstance(wanted.get("resources"), dict):
        raise ChangeRefused(
            "the proposal names no container of it, or no resources",
            why=f"there are {', '.join(names)}",
            fix='container = "app", resources = {limits = {cpu = "2"}}',
        )
    position = names.index(wanted["container"])
    new = {**(containers[position].get("resources") or {})}
    for kind in ("requests", "limits"):
        for resource, value in (wanted["resources"].get(kind) or {}).items():
            _check(resource, str(value))
            new[kind] = {**(new.get(kind) or {}), resource: str(value)}
    return f"/spec/template/spec/containers/{position}/resources", new


def _check(resource: str, value: str) -> None:
    """The bounds of every limit: 0.1 to 64 cores, 128Mi to 512Gi."""
    if resource == "cpu":
        match = _CPU.match(value)
        cores = (int(match[1]) / 1000 if match[1] else float(match[2])) if match else 0.0
        if not 0.1 <= cores <= 64:
            raise ChangeRefused(f"cpu {value} is outside 0.1 to 64 cores", fix="write 500m or 2")
    elif resource == "memory":
        try:
            parse_memory_bytes(value)
        except ValueError as error:
            raise ChangeRefused("that is no memory limit", why=str(error), fix="write 512Mi or 2Gi") from None
    else:
        raise ChangeRefused(f"{resource!r} is not changed by perfloop", fix="cpu or memory")


def _get(where: dict[str, Any]) -> dict[str, Any]:
    text = programs.run(["kubectl", "get", where["workload"], "-n", where["namespace"], "-o", "json"], fix="kubectl config current-context")
    try:
        found = json.loads(text)
        found["spec"]["template"]["spec"]["containers"]
        return dict(found)
    except (ValueError, KeyError, TypeError) as error:
        raise ChangeRefused(f"kubectl tells {where['workload']} in a way that is not known", why=str(error), fix="kubectl get -o json; report it") from None


def _at(document: Any, path: str) -> Any:
    for part in path.strip("/").split("/"):
        document = document[int(part)] if isinstance(document, list) else document.get(part)
        if document is None:
            return {} if path.endswith("/resources") else None
    return document


def _patch(params: dict[str, Any], old: Any, new: Any) -> list[str]:
    patch = [{"op": "test", "path": params["path"], "value": old}, {"op": "replace", "path": params["path"], "value": new}]
    return ["kubectl", "patch", params["workload"], "-n", params["namespace"], "--type=json", "-p", json.dumps(patch, separators=(",", ":"))]


def _rollout(params: dict[str, Any]) -> list[str]:
    return ["kubectl", "rollout", "status", params["workload"], "-n", params["namespace"], f"--timeout={ROLLOUT_MAX_S}s"]


def _wait(params: dict[str, Any]) -> None:
    programs.run(_rollout(params), timeout_s=ROLLOUT_MAX_S + 10, fix="kubectl describe")


def _complete(params: dict[str, Any]) -> bool:
    try:
        _wait(params)
    except (ChangeRefused, CannotMeasure):
        return False
    return True
