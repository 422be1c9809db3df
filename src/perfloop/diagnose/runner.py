"""Runs the rules on one evidence, and ranks what they found. A rule that fails is unknown, and the others go on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from perfloop.diagnose import BUILTIN
from perfloop.diagnose.explains import rank
from perfloop.diagnose.finish import not_applicable, unknown
from perfloop.diagnose.reading import Reading
from perfloop.errors import UsageError
from perfloop.model.config import RuleConfig
from perfloop.model.evidence import Evidence
from perfloop.model.finding import Diagnosis, Outcome, RuleResult
from perfloop.model.target import PeerKind

#: Evidence field → the probe that collects it, and what it is called in a sentence.
_SOURCES = {
    "postgres": ("postgres", "observations of the database"),
    "postgres_health": ("postgres-health", "the state of the database server"),
    "stacks": ("stacks", "stacks of the service"),
    "sockets": ("sockets", "traffic of the service's sockets"),
    "processes": ("process", "observations of the service's processes"),
    "host": ("host", "observations of the machine"),
    "source": ("stacks", "the source of the functions on stacks"),
    "solo": ("solo", "runs of each endpoint alone"),
    "window": ("load", "a window of load"),
}
_ENGINES = {
    "postgres": PeerKind.POSTGRESQL,
    "postgres_health": PeerKind.POSTGRESQL,
    "mysql": PeerKind.MYSQL,
    "redis": PeerKind.REDIS,
    "memcached": PeerKind.MEMCACHED,
    "mongodb": PeerKind.MONGODB,
}
_NAMES = {
    PeerKind.POSTGRESQL: "PostgreSQL",
    PeerKind.MYSQL: "MySQL or MariaDB",
    PeerKind.REDIS: "Redis",
    PeerKind.MEMCACHED: "Memcached",
    PeerKind.MONGODB: "MongoDB",
}


def builtin_rules() -> dict[str, ModuleType]:
    """The built-in rules by id."""
    modules = [import_module(name) for name in BUILTIN]
    return {module.ID: module for module in modules}


def diagnose(evidence: Evidence, rules_config: Mapping[str, RuleConfig], rules: Mapping[str, ModuleType] | None = None) -> Diagnosis:
    """All rules' answers to one evidence, findings ranked. ``rules``: those to run; the built-in ones where it is None. ``UsageError`` for an unknown rule or threshold."""
    modules = dict(rules) if rules is not None else builtin_rules()
    _check(rules_config, modules)
    results = []
    for name, module in modules.items():
        config = rules_config.get(name, RuleConfig())
        results.append(_run(module, evidence, config) if config.enabled else not_applicable(name, "switched off by configuration"))
    findings = [finding for result in results if result.outcome is Outcome.FOUND for finding in result.findings]
    return Diagnosis(findings=rank(findings, Reading(evidence)), results=tuple(results))


def _run(module: ModuleType, evidence: Evidence, config: RuleConfig) -> RuleResult:
    missing = [name for name in module.NEEDS if not _has(evidence, name)]
    if missing:
        return _missing(module.ID, missing[0], evidence)
    try:
        result: RuleResult = module.diagnose(evidence, config.thresholds)
    except Exception as error:  # noqa: BLE001 - one broken rule must not hide what the others found
        return unknown(module.ID, f"the rule failed: {type(error).__name__}: {error}", "report this with the stored evidence")
    return result


def _has(evidence: Evidence, name: str) -> bool:
    value = getattr(evidence, name, None) if name in Evidence.model_fields else evidence.extra.get(name)
    return bool(value) if isinstance(value, tuple) else value is not None


def _missing(rule: str, name: str, evidence: Evidence) -> RuleResult:
    probe, words = _SOURCES.get(name, (name, name))
    engine = _ENGINES.get(name)
    if engine and (evidence.target.peers or not name.startswith("postgres")) and not any(peer.kind is engine for peer in evidence.target.peers):
        return not_applicable(rule, f"the service talks to no {_NAMES[engine]}")
    for item in evidence.unavailable:
        if item.probe == probe:
            return unknown(rule, f"{words} are missing: {item.reason}", item.fix)
    return unknown(rule, f"{words} are missing", "look at the running service again: perfloop check URL")


def _check(rules_config: Mapping[str, RuleConfig], modules: Mapping[str, ModuleType]) -> None:
    for name, config in rules_config.items():
        if name not in modules:
            raise UsageError(f"there is no rule {name!r}", why="it is named in the configuration under rules", fix=_suggest(name, modules))
        known: Mapping[str, float] = getattr(modules[name], "THRESHOLDS", {})
        for threshold in config.thresholds:
            if threshold not in known:
                raise UsageError(f"the rule {name} has no threshold {threshold!r}", why=f"it has {', '.join(known) or 'none'}", fix=_suggest(threshold, known))


def _suggest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"use one of: {', '.join(known)}"
