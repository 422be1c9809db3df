"""The table of instance shapes and prices: a file that users edit, read strictly."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from pydantic import Field, ValidationError

from perfloop.errors import UsageError
from perfloop.model.base import Word

HOURS_PER_MONTH = 730.0


class Shape(Word):
    """One instance type. ``speed``: throughput of one of its vCPUs against one core of the machine where we measured."""

    name: str
    vcpu: int = Field(ge=1, le=1_024)
    memory_gib: float = Field(gt=0, le=65_536)
    per_hour: float = Field(ge=0, le=100_000)
    speed: float = Field(default=1.0, gt=0, le=100)


class Provider(Word):
    """Shapes of one provider in one region."""

    provider: str
    region: str = ""
    shapes: tuple[Shape, ...] = Field(max_length=500)


class Table(Word):
    """All shapes, and the date of their prices."""

    dated: str
    currency: str = "USD"
    instances: tuple[Provider, ...] = Field(min_length=1, max_length=50)


def builtin() -> Table:
    """The table that comes with perfloop."""
    return parse((files("perfloop.capacity") / "instances.toml").read_text(encoding="utf-8"), "the built-in table")


def parse(text: str, name: str) -> Table:
    """A table from TOML; ``UsageError`` names the key that is wrong."""
    try:
        return Table.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is no TOML", why=str(error), fix="start from a copy of src/perfloop/capacity/instances.toml") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{name}: {where}: {first['msg']}", fix="start from a copy of src/perfloop/capacity/instances.toml") from None
