"""One file per verb: ``REQUEST`` (its request model) and ``run(request, output)``, which returns the exit code."""

#: group → verb → one line of help; the module is ``perfloop.cli.verbs.<verb>`` with ``_`` for ``-``. Written here so that ``--help`` imports no verb.
VERBS: dict[str, dict[str, str]] = {
    "Look": {
        "check": "measure a service, find its bottleneck, report (what a bare URL does)",
        "load": "one performance test: load, stress, spike, soak, volume, scalability, baseline, regression",
        "query": "why one query is slow, or slower than it was, and the fix",
        "indexes": "which indexes a workload wants, and which it does not need",
        "doctor": "what can be measured and changed here, and how to close each gap",
        "capacity": "how far it goes, what ends it, what to add and what that costs",
        "diagnose": "judge the stored evidence of a run again, or rank causes from CSV files of metrics; no traffic",
        "gate": "measure two commits interleaved here; fail on a regression or a broken budget",
        "compare": "compare two runs, with proof",
        "context": "what is known about the service, for another agent",
        "explain": "the page of a rule, a change kind or an exit code",
    },
    "Change": {
        "improve": "the whole loop: measure, find, change, prove, keep or undo",
        "plan": "write a plan of changes from a run's findings; applies nothing",
        "apply": "apply a saved plan under journal and watchdog, and prove it",
        "try": "measure branches, patches or start commands against the committed state; the winner is proved",
        "rollback": "undo changes that were kept, are open, or are stuck",
        "approvals": "list, give or revoke approvals that are remembered",
    },
    "Stop": {
        "stop": "end running load at once, by its own process ids",
    },
    "Record": {
        "baseline": "keep a run as a named reference",
        "history": "where the stored runs' figures moved to another level, and by which commits",
        "verify-claims": "check each performance figure of a text against stored evidence",
        "report": "render a stored run as html, markdown, json, junit or text",
        "log": "read or verify the audit log",
    },
    "Start and serve": {
        "run": "start a service with counters inside: calls per request, with file and line",
        "demo": "start the bundled slow service and improve it",
        "init": "write a perfloop.toml from what can be discovered",
        "ui": "show stored runs in a browser, on 127.0.0.1 only",
        "agent": "set coding agents up in this project, or run the built-in one",
        "mcp": "serve perfloop to coding agents as tools, over stdio or HTTP",
    },
}
