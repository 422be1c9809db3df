"""No secret and no literal survives, whatever stands around it."""

from __future__ import annotations

import string
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from perfloop.errors import UsageError
from perfloop.host.secrets import redact
from perfloop.sql.fingerprint import normalize
from perfloop.sql.guard import check_load_sql
from perfloop.sql.predicates import predicates

SECRET = "geheim42424242"
WORDS = st.text(string.ascii_letters + string.digits + "._-~!$()*+", max_size=12)


@given(WORDS, WORDS, WORDS)
def test_a_password_of_a_dsn_is_hidden(before: str, after: str, name: str) -> None:
    assert SECRET not in redact(f"connecting to postgresql://{'u' + name}:{before}{SECRET}{after}@db.example:5432/shop?sslmode=require failed")


PIECES = st.sampled_from(
    [
        "password",
        "=",
        ":",
        " ",
        "'",
        '"',
        "\\",
        "@",
        "/",
        "postgresql://",
        "u",
        "***",
        "Authorization",
        "Bearer ",
        "Cookie",
        "?",
        "&",
        "token",
        "{",
        "}",
        ",",
        "x1",
        "--",
        "%40",
        "\n",
        "#",
        "-----BEGIN PRIVATE KEY-----",
        "eyJabcdef.abcdef",
    ]
)


@given(st.text(max_size=300) | st.lists(PIECES, max_size=25).map("".join))
def test_redaction_never_fails_and_is_stable(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=60),
    st.integers(0, 70),
    st.sampled_from(
        ["SELECT * FROM t WHERE a = {} AND b = 1", "INSERT INTO t VALUES ({})", "garbage ( {} from", "CALL f({})", "SELECT x FROM t WHERE y IN ({}, 'b')"]
    ),
)
def test_no_literal_survives_normalising_also_when_cut_off(inner: str, cut: int, template: str) -> None:
    literal = "'" + inner.replace("'", "''") + SECRET + "'"
    text = template.format(literal)
    assert SECRET not in normalize(text)
    assert SECRET not in normalize(text[: max(0, len(text) - cut)])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["postgres", "mysql"]))
def test_any_text_is_answered_or_refused(text: str, dialect: str) -> None:
    normalize(text, dialect)  # type: ignore[arg-type]
    predicates(text, dialect)  # type: ignore[arg-type]
    with suppress(UsageError):
        check_load_sql(text, dialect)  # type: ignore[arg-type]
