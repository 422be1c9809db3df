"""Runs one workload from a file and prints what came back as JSON: our engine as a program, so that it is measured as its peers are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from perfloop.load.merge import merge_steps
from perfloop.load.run import run_window
from perfloop.model.journey import Workload
from perfloop.stats.histogram import Histogram

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


def main() -> None:
    load = run_window(Workload.model_validate_json(Path(sys.argv[1]).read_text()), "bench")
    while True:
        try:
            next(load)
        except StopIteration as stop:
            window = stop.value
            break
    total = merge_steps("total", window.steps)
    latency = Histogram.from_data(total.latency)
    lateness = Histogram.from_data(window.lateness)
    print(
        json.dumps(
            {
                "sent": total.sent,
                "ok": total.ok,
                "errors": total.errors,
                "duration_s": window.duration_s,
                "busy": window.generator_busy,
                "quantiles_s": {str(q): latency.quantile(q) for q in QUANTILES},
                "max_s": latency.max_s,
                "lateness_s": {str(q): lateness.quantile(q) for q in (0.5, 0.99, 0.999)},
                "iterations": sum(journey.ok for journey in window.journeys),
                "users": max((slot.users for slot in window.per_second), default=0),
                "stopped_early": window.stopped_early,
                "first_errors": window.first_errors,
            }
        )
    )


if __name__ == "__main__":
    main()
