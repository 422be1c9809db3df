"""Pages of the rules, rendered from their docstrings: ``docs/rules/<id>.md`` and ``perfloop explain RULE``.

``python -m perfloop.diagnose.pages docs/rules`` writes them; with ``--check`` it writes nothing and ends with 1 where one is out of date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from perfloop.diagnose.runner import builtin_rules

SECTIONS = ("What it finds", "Why it costs you", "How it decides", "What would disprove it", "How to fix", "Sources")


def sections(module: ModuleType) -> dict[str, str]:
    """The docstring of a rule by section; the first sentence is under the empty name."""
    found: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(module.__doc__ or "").splitlines():
        if line in SECTIONS:
            current = line
            found[current] = []
        else:
            found[current].append(line.strip())
    return {name: " ".join(part for part in lines if part) for name, lines in found.items()}


def page(module: ModuleType) -> str:
    """One rule as Markdown: its sections, then its thresholds as they can be overridden in the configuration."""
    parts = sections(module)
    lines = [f"# {module.ID}", "", parts[""], ""]
    for name in SECTIONS:
        lines += [f"## {name}", "", _marked(parts.get(name, "")), ""]
    lines += ["## Evidence it needs", "", ", ".join(f"`{name}`" for name in module.NEEDS), ""]
    lines += ["## Thresholds", "", "| name | default |", "|---|---|"]
    lines += [f"| `{name}` | {value:g} |" for name, value in module.THRESHOLDS.items()]
    example = next(iter(module.THRESHOLDS))
    lines += [
        "",
        "Override them in the configuration:",
        "",
        "```toml",
        f"[rules.{module.ID}.thresholds]",
        f"{example} = {module.THRESHOLDS[example]:g}",
        "```",
        "",
    ]
    return "\n".join(lines)


def index(modules: Sequence[ModuleType]) -> str:
    """The list of all rules as Markdown."""
    lines = ["# Rules", "", "| rule | what it finds |", "|---|---|"]
    lines += [f"| [{module.ID}]({module.ID}.md) | {sections(module)['']} |" for module in sorted(modules, key=lambda module: str(module.ID))]
    return "\n".join([*lines, ""])


def pages() -> dict[str, str]:
    """File name → content, of all pages."""
    rules = builtin_rules()
    return {"index.md": index(list(rules.values())), **{f"{name}.md": page(module) for name, module in rules.items()}}


def _marked(text: str) -> str:
    return text.replace("``", "`")


def main(arguments: Sequence[str]) -> int:
    """Write the pages into the folder named last, or check them."""
    folder = Path(arguments[-1])
    stale = [name for name, text in pages().items() if not (folder / name).is_file() or (folder / name).read_text("utf-8") != text]
    if "--check" in arguments:
        for name in stale:
            sys.stderr.write(f"{folder / name} is out of date\n")
        return 1 if stale else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
