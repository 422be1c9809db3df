"""References and redaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfloop.errors import UsageError
from perfloop.host.secrets import redact, redact_argv, resolve


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DSN", "geheim")
    (tmp_path / "dsn").write_text("from-file\n")
    assert resolve("env:SHOP_DSN") == "geheim"
    assert resolve(f"file:{tmp_path}/dsn") == "from-file"
    assert resolve("file:dsn", tmp_path) == "from-file"


@pytest.mark.parametrize("reference", ["env:NOT_SET_ANYWHERE", "file:/no/such/file", "postgresql://u:geheim@h/db", "geheim", "env:", ""])
def test_a_bad_reference_is_named_and_no_value_is_told(reference: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(reference)
    assert caught.value.what
    assert caught.value.fix
    assert "geheim" not in caught.value.render()
    if reference.startswith(("env:N", "file:/")):
        assert reference in caught.value.what


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        resolve(f"file:{tmp_path}/dsn")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://shop:geheim@127.0.0.1:5432/shop",
        "postgresql://shop:ge@geheim@127.0.0.1/shop",
        "postgresql://shop:a/geheim@127.0.0.1:5432/shop",
        "redis://:geheim@cache:6379/0",
        "host=h user=u password=geheim dbname=d",
        "host=h password='ge heim geheim' dbname=d",
        "PGPASSWORD=geheim psql",
        "http://h/path?token=geheim&x=1",
        "http://h/path?a=1&api_key=geheim",
        "http://h/?email=geheim@example.org",
        "http://h/?email=geheim%40example.org",
        "Authorization: Bearer geheimgeheim",
        "authorization: Basic Z2VoZWltOmdlaGVpbQ==geheim",
        '{"Authorization": "Bearer geheimgeheim"}',
        '{"password": "geheim", "user": "u"}',
        "Cookie: session=geheim; other=geheim",
        "--password=geheim",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJnZWhlaW0ifQ.geheim",
        "-----BEGIN RSA PRIVATE KEY-----\ngeheim\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    assert "geheim" not in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8000/orders?page=2&size=50",
        "postgresql://127.0.0.1:5432/shop",
        "SELECT * FROM users WHERE id = ?",
        "GET /orders/{id}",
        "p95 12.5 ms",
        "uvicorn shop:app --port 8000 --workers 2",
        "see http://a:8000/x and mail@b.org",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_what_is_not_secret_stays_readable() -> None:
    assert redact("postgresql://shop:pw@db:5432/shop?sslmode=require") == "postgresql://shop:***@db:5432/shop?sslmode=require"


def test_command_lines() -> None:
    assert redact_argv(["app", "--password", "geheim", "--port", "80", "--token=geheim", "-v"]) == (
        "app",
        "--password",
        "***",
        "--port",
        "80",
        "--token=***",
        "-v",
    )
