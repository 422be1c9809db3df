"""``perfloop diagnose --metrics``: files in, ranked causes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perfloop import api
from perfloop.cli.main import perfloop
from perfloop.errors import UsageError
from perfloop.model.requests import DiagnoseRequest

NAMES = ("web_cpu", "web_mem", "web_lat_99", "shop-db_cpu", "shop-db_mem", "web_load", "cache_cpu", "cache_mem")


def series(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(300e6 if name.endswith("mem") else 20, 2e6 if name.endswith("mem") else 1, rows) for name in NAMES}


def write(path: Path, columns: dict[str, np.ndarray], start: int = 1_700_000_000, delimiter: str = ",") -> str:
    rows = [delimiter.join(["time", *columns])]
    rows += [delimiter.join([str(start + i), *(repr(float(column[i])) for column in columns.values())]) for i in range(len(next(iter(columns.values()))))]
    path.write_text("\n".join(rows))
    return str(path)


def ranked(*files: str):
    return api.diagnose_metrics(DiagnoseRequest(metrics=files))


def test_the_store_that_burns_cpu_stands_before_those_who_wait_for_it(tmp_path):
    columns = series(300, 1)
    columns["shop-db_cpu"][160:] += 60
    columns["web_lat_99"][160:] *= 40
    result = ranked(write(tmp_path / "all.csv", columns))
    assert (result.components[0].component, result.causes[0].metric) == ("shop-db", "shop-db_cpu")
    assert result.onset_row is not None
    assert abs(result.onset_row - 160) <= 2
    assert result.onset_s == 1_700_000_000 + result.onset_row


def test_memory_stands_before_the_cpu_that_it_costs(tmp_path):
    columns = series(300, 2)
    columns["web_mem"][150:] *= 2.5
    columns["web_cpu"][150:] += 70
    result = ranked(write(tmp_path / "all.csv", columns))
    assert result.causes[0].metric == "web_mem"
    assert next(cause for cause in result.causes if cause.metric == "web_cpu").explained_by == "web_mem"


def test_more_load_stands_before_the_cpu_that_follows_it(tmp_path):
    columns = series(300, 3)
    for name in ("web_load", "web_cpu", "shop-db_cpu", "cache_cpu"):
        columns[name][150:] *= 3
    assert ranked(write(tmp_path / "all.csv", columns)).causes[0].metric == "web_load"


def test_two_files_are_before_and_after_and_a_late_change_is_told(tmp_path):
    before, after = series(120, 4), series(120, 5)
    after["cache_cpu"][40:] += 50
    result = ranked(write(tmp_path / "before.csv", before), write(tmp_path / "after.csv", after, 1_700_009_000))
    assert result.components[0].component == "cache"
    assert result.onset_given == 120
    assert any("rows after the second file begins" in note for note in result.notes)


def test_nothing_is_found_where_nothing_changed(tmp_path):
    result = ranked(write(tmp_path / "calm.csv", series(300, 6)))
    assert result.onset_row is None
    assert result.causes == ()


def test_the_command_takes_the_second_file_as_its_argument(tmp_path, capsys):
    before, after = series(100, 7), series(100, 8)
    after["web_mem"] *= 3
    files = [write(tmp_path / "before.csv", before, delimiter=";"), write(tmp_path / "after.csv", after, delimiter=";")]
    with pytest.raises(SystemExit) as ended:
        perfloop(["diagnose", "--metrics", *files, "--json"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["components"][0]["component"] == "web"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table"),
        ("1,2\n3,4\n", "no table"),
        ("time,state\n1,up\n2,down\n", "no column of numbers"),
        ("time,web_cpu\n" + "1,2\n" * 15, "too few rows"),
    ],
)
def test_what_is_no_table_of_metrics_is_refused(tmp_path, text, words):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UsageError, match=words):
        ranked(str(tmp_path / "bad.csv"))


def test_columns_that_one_file_lacks_are_left_out_and_told(tmp_path):
    before, after = series(100, 9), series(100, 10)
    del after["cache_mem"]
    after["cache_cpu"] += 60
    result = ranked(write(tmp_path / "before.csv", before), write(tmp_path / "after.csv", after))
    assert result.metrics == len(NAMES) - 1
    assert any("1 columns are in one of the files only" in note for note in result.notes)
