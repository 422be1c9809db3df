"""What the service reads at start: ``shop.toml`` (path in SHOP_CONFIG) and the variants that are switched on (SHOP_PROBLEMS)."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of one process."""

    database_url: str
    pool_size: int
    max_overflow: int
    pool_timeout_s: float
    supplier_url: str
    supplier_keepalive: int
    supplier_timeout_s: float
    variants: frozenset[str]


def load() -> Settings:
    """Read the file named by SHOP_CONFIG; a missing key is an error at start, not at the first request."""
    path = Path(os.environ["SHOP_CONFIG"])
    data = tomllib.loads(path.read_text())
    database, supplier = data["database"], data["supplier"]
    dsn = (path.parent / database["dsn_file"]).read_text().strip()
    return Settings(
        database_url=dsn.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=int(database["pool_size"]),
        max_overflow=int(database["max_overflow"]),
        pool_timeout_s=float(database["pool_timeout_s"]),
        supplier_url=supplier["url"],
        supplier_keepalive=int(supplier["keepalive_connections"]),
        supplier_timeout_s=float(supplier["timeout_s"]),
        variants=frozenset(filter(None, os.environ.get("SHOP_PROBLEMS", "").split(","))),
    )
