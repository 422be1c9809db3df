"""One key of a text: nginx, redis.conf, drop-ins, YAML; only what is meant changes."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from perfloop.change import nginx_text, settings
from perfloop.change.kinds import mysql_setting, postgres_setting, redis_setting, sysctl
from perfloop.errors import ChangeRefused

NGINX = b"""# top ; not a statement {
worker_processes 1;
http {
    gzip off; # gzip on;
    map $a $b { default "x;{"; }
    server { listen 1; location / { return 200 'a } b'; } }
    server {
        listen 2;
        keepalive_timeout 5s 10s;
    }
}
"""


@pytest.mark.parametrize(
    ("key", "old", "new", "line"),
    [
        ("worker_processes", "1", "auto", b"worker_processes auto;"),
        ("http.gzip", "off", "on", b"    gzip on; # gzip on;"),
        ("http.server[1].keepalive_timeout", "5s 10s", "7s", b"        keepalive_timeout 7s;"),
        ("http.sendfile", None, "on", b"    sendfile on;"),
        ("http.server[1].sendfile", None, "on", b"        sendfile on;"),
        ("pcre_jit", None, "on", b"pcre_jit on;"),
    ],
)
def test_one_directive_of_nginx(key: str, old: str | None, new: str, line: bytes) -> None:
    assert nginx_text.get(NGINX, "n", key) == old
    after = nginx_text.replaced(NGINX, "n", key, new)
    assert nginx_text.get(after, "n", key) == new
    assert [now for now in after.split(b"\n") if now not in NGINX.split(b"\n")] == [line]
    assert nginx_text.replaced(after, "n", key, old) == NGINX


@pytest.mark.parametrize(
    ("key", "value"),
    [("http.server.none.x", "1"), ("http.server[2].x", "1"), ("http.server", "1"), ("http.gzip", "on; evil on"), ("http.gzip", "a{"), ("http.Gzip", "on")],
)
def test_what_is_no_single_directive_is_refused(key: str, value: str) -> None:
    with pytest.raises(ChangeRefused):
        nginx_text.replaced(NGINX, "n", key, value)


@pytest.mark.parametrize("text", [b"http {", b"}", b"http { a b; ", b'http { a "b; }'])
def test_what_nginx_could_not_read_is_refused(text: bytes) -> None:
    with pytest.raises(ChangeRefused):
        nginx_text.get(text, "n", "http.a")


YAML = b"# top\na: &x 5\nb: *x\npool:   # comment\n    size:  5   # five\n    name: 'it''s'\n    on: yes\n    text: |\n      block\nlist:\n- {port: 1}\n- {port: 2}\n"


@pytest.mark.parametrize(
    ("key", "old", "new", "line"),
    [
        ("pool.size", 5, 20, b"    size:  20   # five"),
        ("pool.name", "it's", "isn't", b"    name: 'isn''t'"),
        ("pool.on", True, False, b"    on: false"),
        ("list[1].port", 2, 3, b"- {port: 3}"),
        ("pool.name", "it's", "a: b # c", b"    name: 'a: b # c'"),
    ],
)
def test_one_key_of_yaml(key: str, old: settings.Value, new: settings.Value, line: bytes) -> None:
    assert settings.get(YAML, "a.yml", key) == old
    after = settings.replaced(YAML, "a.yml", key, new)
    assert [now for now in after.split(b"\n") if now not in YAML.split(b"\n")] == [line]
    assert settings.get(after, "a.yml", key) == new


@pytest.mark.parametrize("key", ["a", "b", "pool", "pool.text", "none", "list[2].port", "pool.size.x"])
def test_anchors_blocks_and_absent_keys_of_yaml_are_refused(key: str) -> None:
    with pytest.raises(ChangeRefused):
        settings.replaced(YAML, "a.yaml", key, 1)


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers() | st.text(max_size=6) | st.booleans(), min_size=1, max_size=4), st.text(max_size=12)
)
def test_any_text_stands_in_yaml_as_itself(fields: dict[str, object], new: str) -> None:
    key = sorted(fields)[0]
    data = yaml.safe_dump(fields, allow_unicode=True).encode()
    try:
        after = settings.replaced(data, "a.yaml", key, new)
    except ChangeRefused:
        return  # not every sign can stand in YAML
    assert yaml.safe_load(after) == {**yaml.safe_load(data), key: new}


def test_json_keeps_every_other_character() -> None:
    data = b'{"a" : [ {"b":1 ,\t"c" : 2}, 3 ],\r\n "d":"x" }'
    assert settings.replaced(data, "a.json", "a[0].c", 5) == b'{"a" : [ {"b":1 ,\t"c" : 5}, 3 ],\r\n "d":"x" }'
    assert settings.get(b'{"a":1,"a":2}', "a.json", "a") == json.loads('{"a":1,"a":2}')["a"]


def test_java_properties() -> None:
    data = b"# c\nserver.tomcat.max-threads 200\nother: x\na.b=1 # no comment\n"
    assert settings.get(data, "app.properties", "server.tomcat.max-threads") == 200
    assert settings.get(data, "app.properties", "a.b") == "1 # no comment"
    assert b"max-threads 400\n" in settings.replaced(data, "app.properties", "server.tomcat.max-threads", 400)


def test_lines_of_redis_and_drop_ins() -> None:
    data = b'hz 10\n# hz 5\nSAVE ""\nhz 20\n'
    assert redis_setting._line(data, "hz") == "20"
    assert redis_setting._line(data, "save") == ""
    for name, value in (("hz", "30"), ("new", "x")):
        after = redis_setting._with_line(data, name, value)
        assert redis_setting._line(after, name) == value
        assert redis_setting._with_line(after, name, redis_setting._line(data, name)) == data
    conf = b"# c\nvm.a = 1\nvm.ab=2\n"
    assert sysctl._value_in(conf, "vm.a") == "1"
    assert sysctl._with(sysctl._with(conf, "vm.new", "1 2"), "vm.new", None) == conf


@pytest.mark.parametrize(
    ("text", "unit", "kind", "expected"),
    [
        ("64MB", "kB", "integer", "65536"),
        ("1GB", "8kB", "integer", "131072"),
        ("128MB", "16MB", "integer", "8"),
        ("250ms", "ms", "integer", "250"),
        ("2min", "s", "integer", "120"),
        ("0.5", None, "real", "0.5"),
        ("4", None, "real", "4"),
        ("true", None, "bool", "on"),
        ("minimal", None, "enum", "minimal"),
    ],
)
def test_values_as_postgresql_tells_them(text: str, unit: str | None, kind: str, expected: str) -> None:
    assert postgres_setting.base_value(text, unit, kind) == expected


def test_a_unit_of_another_kind_is_refused() -> None:
    with pytest.raises(ChangeRefused):
        postgres_setting.base_value("5s", "kB", "integer")


def test_values_as_mysql_and_redis_tell_them() -> None:
    assert mysql_setting._typed("256M", 1, "x") == 256 * 2**20
    assert mysql_setting._typed("ON", 0, "x") == 1
    with pytest.raises(ChangeRefused):
        mysql_setting._typed("many", 1, "x")
    assert redis_setting._canonical("100mb", "0") == str(100 * 2**20)
    assert redis_setting._canonical("Allkeys", "noeviction") == "allkeys"


@pytest.mark.parametrize("name", ["kernel.panic", "vm.drop_caches", "kernel.core_pattern", "net..ipv4", "vm/../x", "fs.protected_symlinks"])
def test_a_kernel_parameter_that_is_not_of_performance_is_refused(name: str, tmp_path: object) -> None:
    from perfloop.model.finding import Proposal

    with pytest.raises(ChangeRefused):
        sysctl.plan(Proposal(kind="sysctl", title="", params={"name": name, "value": "1"}), None)  # type: ignore[arg-type]
