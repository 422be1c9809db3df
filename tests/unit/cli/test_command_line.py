from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from perfloop import __version__
from perfloop.cli.main import normalise, perfloop, run
from perfloop.cli.options import load_verb
from perfloop.cli.verbs import VERBS
from perfloop.model.result import RunResult

ALL = [verb for verbs in VERBS.values() for verb in verbs]
HEAVY = {"pydantic", "rich", "jinja2", "numpy", "sqlglot", "psycopg", "mcp", "starlette"}


def _process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "perfloop", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_a_password_in_a_wrong_value_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "select 1", "--database", "postgresql://u:geheim@h/x"]) == 2
    assert run(["query", "select 1", "--database", "host=h password=geheim dbname=x", "--json"]) == 2
    said = capsys.readouterr()
    assert "geheim" not in said.out + said.err


def test_version_as_a_process_imports_nothing_heavy() -> None:
    done = _process("--version")
    assert (done.returncode, done.stdout) == (0, f"perfloop {__version__}\n")
    code = f"import sys; sys.argv = ['perfloop', '--version']\ntry:\n    from perfloop.cli.main import main; main()\nexcept SystemExit:\n    sys.exit(' '.join({HEAVY!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False).stderr.strip() == ""


def test_help_lists_every_verb_in_its_group() -> None:
    done = _process("--help")
    assert done.returncode == 0
    position = -1
    for group, verbs in VERBS.items():
        heading = done.stdout.index(f"{group}:")
        assert heading > position
        for verb in verbs:
            position = done.stdout.index(f"\n  {verb}", heading)


def test_each_verb_has_a_file_and_each_file_a_verb() -> None:
    import perfloop.cli.verbs as folder

    files = {path.stem for path in Path(str(folder.__file__)).parent.glob("*.py")} - {"__init__"}
    assert files == {verb.replace("-", "_") for verb in ALL}


@pytest.mark.parametrize("verb", ALL)
def test_help_of_each_verb_describes_every_option(verb: str) -> None:
    done = CliRunner().invoke(perfloop, [verb, "--help"])
    assert done.exit_code == 0, done.output
    assert "Options of every verb:" in done.output
    for parameter in load_verb(verb).params:
        assert getattr(parameter, "help", None) or getattr(parameter, "about", None), parameter.name


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["http://localhost:8000"], ["check", "http://localhost:8000"]),
        (["localhost:8000/x", "--json"], ["check", "localhost:8000/x", "--json"]),
        (["--json", "-o", "f", "log"], ["log", "--json", "-o", "f"]),
        (["--config=x", "http://h"], ["check", "--config=x", "http://h"]),
        (["log"], ["log"]),
        ([], []),
    ],
)
def test_bare_urls_and_leading_flags(given: list[str], wanted: list[str]) -> None:
    assert normalise(given) == wanted


def test_unknown_verb_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["improove"]) == 2
    assert "did you mean improve?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["check", "http://127.0.0.1:1", "--rate-per-s", "0"], ["--rate-per-s", "0 is below 0.1"]),
        (["check", "http://127.0.0.1:1", "--rate-per-s", "100001"], ["100001 is above 100,000"]),
        (["check", "http://127.0.0.1:1", "--rate-per-s", "fast"], ["'fast' is no number"]),
        (["improve", "http://127.0.0.1:1", "--budget", "5s"], ["--budget", "5s is outside 30s to 24h"]),
        (["improve", "http://127.0.0.1:1", "--budget", "soon"], ["'soon' is not a duration"]),
        (["check", "ftp://127.0.0.1:1"], ["'ftp://127.0.0.1:1' is no http or https address"]),
        (["check", "http://127.0.0.1:1", "--environment", "prod"], ["'prod' is not one of sandbox, staging, production"]),
        (["demo", "--problems", "missing-index,typo"], ["'typo' is not one of missing-index"]),
        (["ui", "--port", "70000"], ["70000 is above 65,535"]),
        (["log", "--limit", "0"], ["--limit", "0 is below 1"]),
        (["baseline", "../etc"], ["NAME", "does not match"]),
        (["compare"], ["missing argument"]),
        (["check", "--nonsense"], ["no such option"]),
        (["report", "-o", "missing-folder/x.html"], ["cannot write missing-folder/x.html"]),
    ],
)
def test_what_is_asked_wrongly_exits_2_and_names_value_and_bound(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    for text in named:
        assert text.lower() in told.lower()
    for foreign in ("pydantic", "validation error", "Input should", "Traceback"):
        assert foreign not in told
    assert not list(project.glob(".perfloop/runs/*"))


def test_errors_are_one_object_with_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "--limit", "0", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)
    assert error["ok"] is False
    assert error["error"]["code"] == 2


def test_report_of_a_stored_run_in_all_formats(project: Path, stored: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    for name, begin in (("html", "<!doctype html>"), ("md", "<!-- perfloop -->"), ("json", '{\n  "ok"'), ("junit", "<?xml"), ("terminal", "p95 fell")):
        assert run(["report", "--format", name]) == 0
        assert capsys.readouterr().out.startswith(begin)
    assert run(["report", stored.run_id, "-o", "out.html"]) == 0
    assert (project / "out.html").read_text().startswith("<!doctype html>")
    assert run(["report", "last", "--format", "pdf"]) == 2
    assert "there is no format 'pdf'" in capsys.readouterr().err


def test_stored_runs_can_be_named_and_the_log_read(project: Path, stored: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baseline", "v1"]) == 0
    assert stored.run_id in capsys.readouterr().out
    assert run(["baseline", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baselines"][0]["name"] == "v1"
    assert run(["log", "--verify"]) == 0


def test_explain_knows_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "5"]) == 0
    assert "undo failed" in capsys.readouterr().out.lower()


def test_an_unknown_run_is_told_with_a_fix(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "no-such-run"]) in (2, 3)
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "fix:" in told


def test_an_unforeseen_error_becomes_a_file_and_exit_3(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from perfloop import api

    def broken(_request: object) -> object:
        raise RuntimeError("postgresql://shop:secret@db/x is odd")

    monkeypatch.setattr(api, "log", broken)
    assert run(["log"]) == 3
    told = capsys.readouterr().err
    assert "Traceback" not in told
    crash = next(project.glob(".perfloop/crash-*.txt"))
    assert str(crash.name) in told
    assert "RuntimeError" in crash.read_text()
    assert "secret" not in told + crash.read_text()
