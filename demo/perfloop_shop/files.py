"""The files that the stack writes: the service's settings, and the configuration of perfloop for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import tomlkit

from perfloop_shop.problems import Surroundings

RATE_PER_S = 26.0
# name, weight, paths. The weights are the same whatever is switched on.
JOURNEYS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("product", 23, ("/products/{1..2000}",)),
    ("availability", 24, ("/products/{1..2000}/availability",)),
    ("customer orders", 11, ("/customers/{1..20000}/orders",)),
    ("recent orders", 8, ("/orders/recent",)),
    ("products", 8, tuple(f"/products?limit=40&offset={offset}" for offset in range(0, 1800, 120))),
    ("quote", 11, ("/products/{1..2000}/quote",)),
    ("bestsellers", 5, ("/reports/bestsellers",)),
    ("search", 4, tuple(f"/search?q={word}" for word in ("lamp", "oak", "bowl", "steel", "clock"))),
    ("buyers", 6, ("/reports/buyers",)),
)


def write_secret(path: Path, text: str) -> None:
    """A file that only its owner can read, from its first moment."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text + "\n")


def service_settings(path: Path, around: Surroundings, supplier_url: str, dsn_file: Path) -> None:
    """``shop.toml``, which the service reads at start."""
    text = tomlkit.document()
    text.add(tomlkit.comment("Settings of the shop; read at start."))
    text["database"] = {"dsn_file": dsn_file.name, "pool_size": around.pool_size, "max_overflow": 0, "pool_timeout_s": 5}
    text["supplier"] = {"url": supplier_url, "keepalive_connections": 20, "timeout_s": 5}
    path.write_text(tomlkit.dumps(text))


def restart_script(path: Path, work_dir: Path) -> None:
    """A command that restarts the service and needs no environment variable to find this package."""
    root = Path(__file__).resolve().parent.parent
    path.write_text(f"import sys\n\nsys.path.insert(0, {str(root)!r})\nfrom perfloop_shop.ctl import restart\n\nsys.exit(restart({str(work_dir)!r}))\n")


def perfloop_config(path: Path, *, url: str, work_dir: Path, customers: int) -> None:
    """``perfloop.toml`` for the shop in ``work_dir``."""
    target = {
        "name": "shop",
        "url": url,
        "environment": "sandbox",
        "postgres": f"file:{work_dir / 'perfloop.dsn'}",
        "postgres_admin": f"file:{work_dir / 'owner.dsn'}",
        "health_path": "/health",
        "restart_command": _command([sys.executable, str(work_dir / "restart.py")]),
        "restart_timeout_s": 30.0,
        "source_root": str(Path(__file__).resolve().parent / "service"),
    }
    document = tomlkit.document()
    document.add(tomlkit.comment("Written by the demo shop at each start."))
    document["target"] = target
    settings = tomlkit.aot()
    settings.append(
        _table({"id": "pool-size", "file": "shop.toml", "key": "database.pool_size", "answers": ["pool-exhausted"], "min": 1, "max": 20, "restart": True})
    )
    settings.append(
        _table({"id": "supplier-keepalive", "file": "shop.toml", "key": "supplier.keepalive_connections", "answers": [], "min": 1, "max": 100, "restart": True})
    )
    document["target"]["settings"] = settings
    candidates = tomlkit.aot()
    candidates.append(_table({"title": "more keep-alive connections to the supplier", "setting": "supplier-keepalive", "value": 50}))
    document["candidates"] = candidates
    journeys = tomlkit.aot()
    for name, weight, paths in JOURNEYS:
        where = {"path": paths[0].replace("20000", str(customers))} if len(paths) == 1 else {"paths": list(paths)}
        journeys.append(_table({"name": name, "weight": weight, **where}))
    document["journeys"] = journeys
    document["slo"] = {"latency_p95_ms": 250.0, "error_rate_max": 0.01}
    document["measure"] = {
        "rate_per_s": RATE_PER_S,
        "window_s": 4.0,
        "windows": 4,
        "warmup_s": 2.0,
        "pairs": 6,
        "confirm_pairs": 0,  # five minutes in all; a service of your own gets the default
        "pairs_window_s": 5.0,
        "settle_s": 0.7,
        "throughput": False,
    }
    document["changes"] = {"allow": "safe"}
    path.write_text(tomlkit.dumps(document))


def _table(values: dict[str, object]) -> tomlkit.items.Table:
    table = tomlkit.table()
    table.update(values)
    return table


def _command(argv: Sequence[str]) -> str:
    import shlex

    return shlex.join(argv)
