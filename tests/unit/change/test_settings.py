from __future__ import annotations

import json

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from perfloop.change import settings
from perfloop.errors import ChangeRefused

TOML = b"# top\nname = 'x'  # who\n[pool]\n# how many\nsize = 5   # connections\n[pool.sub]\non = true\n"
INI = b"; c\nsize = 3\n[pool]\nsize = 5 ; connections\nurl='a b'\r\nlimit: 1.5\n[other]\nsize=9\n"
ENV = b'# c\nexport POOL_SIZE=5\nNAME="a # b"\nPOOL.MAX=7\n'
JSON = b'{\n  "pool": {\n    "size": 5,\n    "name": "\xc3\xa9"\n  }\n}\n'


@pytest.mark.parametrize(
    ("data", "file", "key", "old", "new", "line"),
    [
        (TOML, "a.toml", "pool.size", 5, 20, b"size = 20   # connections"),
        (TOML, "a.toml", "pool.sub.on", True, False, b"on = false"),
        (INI, "a.ini", "pool.size", 5, 20, b"size = 20 ; connections"),
        (INI, "a.ini", "size", 3, 4, b"size = 4"),
        (INI, "a.cfg", "pool.url", "a b", "c", b"url='c'\r"),
        (INI, "a.conf", "pool.limit", 1.5, 2.5, b"limit: 2.5"),
        (ENV, ".env", "POOL_SIZE", 5, 20, b"export POOL_SIZE=20"),
        (ENV, ".env", "NAME", "a # b", "c", b'NAME="c"'),
        (ENV, ".env", "POOL.MAX", 7, 8, b"POOL.MAX=8"),
        (JSON, "a.json", "pool.size", 5, 20, b'    "size": 20,'),
    ],
)
def test_only_that_line_changes(data: bytes, file: str, key: str, old: settings.Value, new: settings.Value, line: bytes) -> None:
    assert settings.get(data, file, key) == old
    after = settings.replaced(data, file, key, new)
    assert settings.get(after, file, key) == new
    changed = [now for was, now in zip(data.split(b"\n"), after.split(b"\n"), strict=True) if was != now]
    assert changed == [line]
    assert settings.replaced(after, file, key, old) == data


@pytest.mark.parametrize(
    ("data", "file", "key"),
    [
        (TOML, "a.toml", "pool.none"),
        (TOML, "a.toml", "name.x"),
        (INI, "a.ini", "pool.none"),
        (JSON, "a.json", "none"),
        (b"=", "a.toml", "x"),
        (b"{", "a.json", "x"),
        (b"\xff", "a.ini", "x"),
        (TOML, "a.toml", "pool"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, file: str, key: str) -> None:
    with pytest.raises(ChangeRefused):
        settings.get(data, file, key)


def test_types_stay() -> None:
    assert settings.like(5, 8.0, "k") == 8
    assert isinstance(settings.like(5, 8.0, "k"), int)
    assert isinstance(settings.like(5.0, 8, "k"), float)
    for old, new in ((5, 8.5), (5, "8"), (True, 1), (1, True), ("a", 1)):
        with pytest.raises(ChangeRefused):
            settings.like(old, new, "k")


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(-1000, 1000) | st.text(max_size=8) | st.booleans(), min_size=1, max_size=6),
    st.integers(0, 10**9),
)
def test_other_keys_never_change(fields: dict[str, object], new: int) -> None:
    key = sorted(fields)[0]
    for file, data in (("a.toml", tomlkit.dumps(fields).encode()), ("a.json", json.dumps(fields).encode())):
        after = settings.replaced(data, file, key, new)
        parsed = json.loads(after) if file.endswith("json") else tomlkit.parse(after.decode()).unwrap()
        assert parsed == {**fields, key: new}
