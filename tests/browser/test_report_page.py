from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from perfloop.model.result import RunResult
from perfloop.report.formats import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")]

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
)
SAMPLE = Path(__file__).parents[1] / "unit" / "report" / "sample.py"


@pytest.fixture(scope="module")
def sample() -> RunResult:
    return runpy.run_path(str(SAMPLE))["sample_result"]()


def _chromium(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=3000", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _page(tmp_path: Path, text: str) -> str:
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def test_the_page_renders_and_its_own_policy_lets_its_script_run(tmp_path: Path, sample: RunResult) -> None:
    done = _chromium(tmp_path, "--dump-dom", _page(tmp_path, html.render(sample)))
    assert "p95 fell from" in done.stdout
    assert done.stdout.count('placeholder="Search functions"') == 2, "the script did not run"
    assert "Content Security Policy" not in done.stderr
    assert "Uncaught" not in done.stderr


def test_a_click_zooms_the_flame_graph(tmp_path: Path, sample: RunResult) -> None:
    click = """
document.querySelectorAll("svg.flame svg.f").forEach(function (box) {
  if (box.querySelector("title").textContent.indexOf("search\\n") === 0) { box.dispatchEvent(new MouseEvent("click", { bubbles: true })); }
});"""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html.render(sample)).replace("</script>\n</body>", click + "</script>\n</body>")
    done = _chromium(tmp_path, "--dump-dom", _page(tmp_path, text))
    zoomed = re.findall(r'data-zoom="([^"]*)"', done.stdout)
    assert zoomed == ["search", "search"]
    box = re.search(r'<svg x="([^"]*)" y="\d+" width="([^"]*)"[^>]*class="f own[^>]*><title>search\n', done.stdout)
    assert box
    assert (box[1], box[2]) == ("0%", "100%")


@pytest.mark.parametrize("size", ["1200,2400", "480,2400"])
def test_the_picture_is_not_blank_and_nothing_overflows(tmp_path: Path, sample: RunResult, size: str) -> None:
    picture = tmp_path / "page.png"
    _chromium(tmp_path, f"--screenshot={picture}", f"--window-size={size}", _page(tmp_path, html.render(sample)))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 40_000  # a blank page of this size compresses to a few kB
