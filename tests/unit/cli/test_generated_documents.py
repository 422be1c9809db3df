from __future__ import annotations

from pathlib import Path

import pytest

from perfloop.cli import docs
from perfloop.cli.verbs import VERBS
from perfloop.model.config import Config


def test_pages_hold_every_verb_and_every_key() -> None:
    page = docs.cli_page()
    for verbs in VERBS.values():
        for verb in verbs:
            assert f"### perfloop {verb}\n" in page
    config = docs.config_page()
    for key, field in Config.model_fields.items():
        assert f"`{key}`" in config or f"[{key}]" in config or f"[{key}.ID]" in config, field


def test_check_names_what_is_out_of_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(docs, "DOCS", tmp_path)
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    (tmp_path / "cli.md").write_text("old")
    capsys.readouterr()
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/cli.md is out of date: make docs\n"
