"""perfloop gate on a real repository and real services: slower code fails, the same code does not, wrong answers are told."""

from __future__ import annotations

import json
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from perfloop.model.result import RunResult
from perfloop.store.runs import RunStore

SAMPLE = Path(__file__).parent.parent / "unit" / "report" / "sample.py"
SERVICE = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    def do_GET(self):
        time.sleep(DELAY)
        body = BODY
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
CONFIG = f"""
[[journeys]]
path = "/work"
[measure]
rate_per_s = 60
warmup_s = 0.2
pairs_window_s = 0.5
settle_s = 0
[gate]
start_command = "{sys.executable} app.py {{port}}"
pairs = 4
effect_min = 0.2
[[gate.budgets]]
metric = "mean_ms"
max = 80
[[gate.budgets]]
metric = "bytes_per_response"
worse_max = 0.5
"""


def write(folder: Path, delay_s: float, body: bytes = b"fine") -> None:
    (folder / "app.py").write_text(SERVICE.replace("DELAY", str(delay_s)).replace("BODY", repr(body)))


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def perfloop(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PERFLOOP_STATE_DIR": str(folder.parent / "state"), "NO_COLOR": "1"}
    return subprocess.run([sys.executable, "-m", "perfloop", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate") / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "perfloop.toml").write_text(CONFIG)
    (folder / ".gitignore").write_text(".perfloop/\n")
    write(folder, 0.04)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "fast")
    return folder


def test_slower_code_fails_the_gate_and_the_working_tree_is_untouched(repository: Path) -> None:
    write(repository, 0.15, b"fine, and more" * 100)
    before = git(repository, "status", "--porcelain"), (repository / "app.py").read_text()
    done = perfloop(repository, "gate", "--against", "HEAD", "--json", "--junit", "../gate.xml", "--markdown", "../gate.md")
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"]["status"] == "regressed"
    assert answer["verdict"]["ratio"]["low"] > 1
    assert {check["name"]: check["ok"] for check in answer["budgets"]} == {"mean_ms of all requests": False, "bytes_per_response of all requests": False}
    assert "another body" in answer["differing_answers"][0]
    assert 'failures="' in (repository.parent / "gate.xml").read_text()
    assert (repository.parent / "gate.md").read_text().startswith("<!-- perfloop gate -->\n**perfloop: regressed")
    assert (git(repository, "status", "--porcelain"), (repository / "app.py").read_text()) == before
    assert git(repository, "worktree", "list").count("\n") == 0
    assert "A/A:" in done.stderr


def test_faster_code_passes(repository: Path) -> None:
    write(repository, 0.002)
    done = perfloop(repository, "gate", "--against", "HEAD", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"]["status"] == "improved"
    assert {"memory, MiB", "CPU per request", "error rate"} <= {guard["metric"] for guard in answer["verdict"]["guards"] if guard["ok"]}
    assert not answer["differing_answers"]


def test_history_measures_both_commits_of_what_it_suspects(repository: Path) -> None:
    sample: RunResult = runpy.run_path(str(SAMPLE))["sample_result"]()
    git(repository, "checkout", "-qb", "slower")
    revisions = [git(repository, "rev-parse", "HEAD")]
    write(repository, 0.15)
    git(repository, "commit", "-qam", "slow")
    revisions.append(git(repository, "rev-parse", "HEAD"))
    git(repository, "checkout", "-q", "-")
    store, luck = RunStore(repository), random.Random(4)
    for number in range(24):
        late = number >= 12
        before = sample.before
        assert before
        assert before.total.p95_s
        p95 = before.total.p95_s.with_(value=before.total.p95_s.value * (2.0 if late else 1.0) * luck.gauss(1, 0.02))
        target = sample.target.with_(git_revision=revisions[late])
        run = sample.with_(run_id=store.create("check"), kind="check", before=before.with_(total=before.total.with_(p95_s=p95)), after=None, target=target)
        store.save_result(run.with_(started_at=f"2026-01-{number + 1:02d}T00:00:00Z"))
    done = perfloop(repository, "history", "--confirm", "--strict", "--json")
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"]["status"] == "regressed"
    assert answer["verdict"]["ratio"]["low"] > 1


def test_what_cannot_be_started_or_named_is_an_error(repository: Path) -> None:
    write(repository, 0.002)
    unknown = perfloop(repository, "gate", "--against", "no-such-branch")
    assert unknown.returncode == 2
    (repository / "app.py").write_text("raise SystemExit('broken')\n")
    broken = perfloop(repository, "gate", "--against", "HEAD")
    assert broken.returncode == 3
    assert "did not start" in broken.stderr
    assert git(repository, "worktree", "list").count("\n") == 0


def test_try_races_candidates_and_a_patch_that_helps_becomes_a_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--", "app.py")
    patches = {"slow.diff": (0.09, b"fine"), "fast.diff": (0.002, b"fine"), "wrong.diff": (0.001, b"nonsense")}
    for name, (delay_s, body) in patches.items():
        write(repository, delay_s, body)
        (repository.parent / name).write_text(git(repository, "diff") + "\n")
        git(repository, "checkout", "-q", "--", "app.py")
    (repository / "notes.txt").write_text("uncommitted work\n")
    done = perfloop(repository, "try", "--patch", ",".join(f"../{name}" for name in patches), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    decisions = {one["name"]: one["decision"] for one in answer["candidates"]}
    assert decisions == {"../fast.diff": "kept", "../slow.diff": "undone", "../wrong.diff": "refused"}
    winner = answer["candidates"][0]
    assert winner["verdict"]["ratio"]["high"] < 1
    branch = winner["commands"][0].removeprefix("git merge ")
    assert "time.sleep(0.002)" in git(repository, "show", f"{branch}:app.py")
    assert git(repository, "rev-parse", branch.replace("try-", "before-try-")) == git(repository, "rev-parse", "HEAD")
    assert git(repository, "status", "--porcelain") == "?? notes.txt"
    assert "time.sleep(0.04)" in (repository / "app.py").read_text()
    assert git(repository, "worktree", "list").count("\n") == 0
    log = perfloop(repository, "log", "--json")
    assert any(entry["operation"] == "code_trial" and entry["outcome"] == "success" for entry in json.loads(log.stdout)["entries"])


def test_try_needs_a_candidate_and_a_way_to_start_it(repository: Path) -> None:
    assert perfloop(repository, "try").returncode == 2
    assert perfloop(repository, "try", "--patch", "no-such.diff").returncode == 2
