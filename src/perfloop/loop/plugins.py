"""Loads plug-ins: built-ins from the visible tuple of their folder, third parties' from entry points, both by the same door and only when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType

from perfloop.errors import UsageError

#: plug-in kind → (package whose ``BUILTIN`` tuple names modules, entry-point group, attributes a plug-in must have)
KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "engine": ("perfloop.load.engines", "perfloop.engines", ("ID", "available", "run")),
    "probe": ("perfloop.observe", "perfloop.probes", ("ID", "NEEDS", "COST")),
    "rule": ("perfloop.diagnose", "perfloop.rules", ("ID", "NEEDS", "diagnose")),
    "change kind": ("perfloop.change.kinds", "perfloop.changes", ("ID", "plan", "apply", "verify", "undo")),
    "format": ("perfloop.report.formats", "perfloop.formats", ("ID", "EXTENSION", "render")),
}


def load(kind: str) -> dict[str, ModuleType]:
    """All plug-ins of one kind by id, built-ins first; ``UsageError`` names a broken or duplicate one."""
    package, group, needed = KINDS[kind]
    found: dict[str, ModuleType] = {}
    for origin, module in _modules(package, group):
        missing = [name for name in needed if not hasattr(module, name)]
        if missing:
            raise UsageError(f"the {kind} {origin} is not usable", why=f"it has no {', '.join(missing)}", fix="correct or uninstall that plug-in")
        if module.ID in found:
            raise UsageError(f"two plug-ins call themselves {module.ID}", why=f"the second is {origin}", fix="uninstall one of them")
        found[module.ID] = module
    return found


def _modules(package: str, group: str) -> Iterator[tuple[str, ModuleType]]:
    for name in import_module(package).BUILTIN:
        yield name, import_module(name)
    for point in entry_points(group=group):
        try:
            yield f"{point.name} of {point.dist.name if point.dist else 'an unknown package'}", point.load()
        except ImportError as error:
            raise UsageError(f"the plug-in {point.name} cannot be imported", why=str(error), fix="reinstall or uninstall its package") from error
