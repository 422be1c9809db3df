"""Configurations, right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfloop.context.config import config_schema, load_config, starter_config
from perfloop.errors import UsageError
from perfloop.model.target import Environment, Peer, PeerKind, Target

GOOD = """
user = "me"
[target]
url = "http://127.0.0.1:8000"
environment = "sandbox"
postgres = "env:DSN"
[[target.settings]]
id = "pool-size"
file = "c.toml"
key = "pool.size"
max = 50
[slo]
latency_p95_ms = 200
[[journeys]]
path = "/a"
weight = 2
[[journeys]]
paths = ["/b", "/c"]
[rules.missing-index]
thresholds = { share_min = 0.2 }
"""


def write(folder: Path, text: str, name: str = "perfloop.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_nothing_gives_the_defaults(tmp_path: Path) -> None:
    loaded = load_config(None, tmp_path)
    assert (loaded.path, loaded.base_dir, loaded.config.measure.windows) == ("", tmp_path, 5)


def test_a_file_is_found_and_read(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    loaded = load_config(None, tmp_path)
    assert loaded.path == str(path)
    assert loaded.config.target.environment == Environment.SANDBOX
    assert loaded.config.target.settings[0].max == 50
    assert [journey.weight for journey in loaded.config.journeys] == [2, 1]
    assert loaded.config.rules["missing-index"].thresholds == {"share_min": 0.2}
    assert load_config(path, "/").config == loaded.config
    assert load_config("perfloop.toml", tmp_path).base_dir == tmp_path


def test_pyproject(tmp_path: Path) -> None:
    path = write(tmp_path, '[project]\nname = "x"\n[tool.perfloop.target]\nurl = "http://127.0.0.1:1"\n', "pyproject.toml")
    assert load_config(None, tmp_path).config.target.url == "http://127.0.0.1:1"
    assert load_config(path).path == str(path)
    write(tmp_path, "")
    with pytest.raises(UsageError, match="two configurations") as caught:
        load_config(None, tmp_path)
    assert caught.value.fix


def test_a_pyproject_of_something_else(tmp_path: Path) -> None:
    path = write(tmp_path, '[project]\nname = "perfloop-plugin"\n', "pyproject.toml")
    assert load_config(None, tmp_path).path == ""
    with pytest.raises(UsageError, match=r"has no \[tool.perfloop\]"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ('[target]\nulr = "x"', "unknown key target.ulr", "did you mean target.url"),
        ("[measure]\nwindow = 3", "unknown key measure.window", "did you mean measure.window"),
        ("[[journeys]]\npath = '/a'\nweigth = 2", "unknown key journeys[1].weigth", "did you mean journeys[1].weight"),
        ("[[target.settings]]\nid = 'a'\nfile = 'b'\nkeey = 'c'", "unknown key target.settings[1].keey", "did you mean target.settings[1].key"),
        ("[rules.missing-index]\nenable = false", "unknown key rules.missing-index.enable", "did you mean rules.missing-index.enabled"),
        ("latency_p95_ms = 5", "unknown key latency_p95_ms", "did you mean slo.latency_p95_ms"),
        ("xyzzy = 5", "unknown key xyzzy", "the keys there are"),
        ("[measure]\nwindows = 1", "measure.windows is 1; it must be at least 3", "set measure.windows to at least 3"),
        ("[measure]\nwindow_s = 0.5", "measure.window_s is 0.5; it must be at least 1", "at least 1"),
        ("[measure]\nrate_per_s = 200000", "measure.rate_per_s is 200000; it must be at most 100000", "at most"),
        ("[measure]\nconfidence = 1.0", "measure.confidence is 1.0; it must be less than 1", "less than 1"),
        ("[measure]\nwindows = 'many'", 'measure.windows is "many"; it must be a whole number', "a whole number"),
        ("[measure]\nthroughput = 'perhaps'", "it must be true or false", "true or false"),
        ("[target]\nurl = 5", "target.url is 5; it must be text", "text"),
        ("target = 5", "target is 5; it must be a table", "a table"),
        ("[target]\nenvironment = 'prodution'", "sandbox, staging or production", 'did you mean "production"'),
        ("[changes]\nallow = 'everything'", "changes.allow is", "write one of these"),
        ("[[journeys]]\nmethod = 'GET'", "a journey needs either path, paths, sql, command or steps", "correct"),
        ("[[target.settings]]\nfile = 'b'\nkey = 'c'", "target.settings[1].id is missing", "add id"),
        ("[[target.settings]]\nid = 'Big Name'\nfile = 'b'\nkey = 'c'", 'target.settings[1].id is "Big Name"', "small letters"),
        ("[limits]\nundo_max_s = 900", "limits.undo_max_s is 900; it must be at most 300", "at most 300"),
        ("a = 2020-01-01", "holds a date", "text"),
        ("[target\n", "is no TOML", "line 1"),
        ("x = nan\n[measure]\nwindow_s = nan", "", ""),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, what: str, fix: str) -> None:
    write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_config(None, tmp_path)
    told = caught.value.render()
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert str(tmp_path) in told
    assert "pydantic" not in told.lower()
    assert "errors." not in told
    assert "http" not in told


def test_in_pyproject_the_key_is_named_in_full(tmp_path: Path) -> None:
    write(tmp_path, '[tool.perfloop.target]\nulr = "x"', "pyproject.toml")
    with pytest.raises(UsageError, match=r"unknown key tool\.perfloop\.target\.ulr") as caught:
        load_config(None, tmp_path)
    assert caught.value.fix == "did you mean tool.perfloop.target.url"


def test_several_mistakes_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "[measure]\nwindows = 1\npairs = 1\n[target]\nulr = 'x'")
    with pytest.raises(UsageError, match="unknown key") as caught:
        load_config(None, tmp_path)
    assert caught.value.hint == "2 more mistakes follow"


@pytest.mark.parametrize(
    "text",
    [
        '[target]\npostgres = "postgresql://u:geheim@h/d"',
        '[target]\nurl = ["http://u:geheim@h"]',
        '[target]\nenvironment = "postgresql://u:geheim@h/d"',
        '[target]\nheaders = { Authorization = 5, x = ["geheim"] }',
        '[incidents]\nwebhook_secret = "geheim"',
    ],
)
def test_no_secret_is_repeated(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_config(None, tmp_path)
    assert "geheim" not in caught.value.render()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.toml").write_bytes(b"# " + b"x" * 2**21)
    for name in ("none.toml", "folder", "binary.toml", "large.toml"):
        with pytest.raises(UsageError) as caught:
            load_config(name, tmp_path)
        assert caught.value.why
        assert caught.value.fix


def test_the_schema_knows_every_section() -> None:
    schema = config_schema()
    assert {"target", "journeys", "slo", "measure", "changes", "limits"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", 'http://h/"quoted"\\x', "http://h/\x7f\n"])
def test_the_starter_loads(tmp_path: Path, url: str) -> None:
    target = Target(
        name="x", url=url, host="h", port=1, local=True, environment=Environment.STAGING, peers=(Peer(kind=PeerKind.POSTGRESQL, host="127.0.0.1", port=5432),)
    )
    text = starter_config(target)
    write(tmp_path, text)
    assert load_config(None, tmp_path).config.target.url == url.replace("\x7f\n", "")
    assert "127.0.0.1:5432" in text
    write(tmp_path, starter_config(None))
    assert load_config(None, tmp_path).config.target.environment == Environment.STAGING
