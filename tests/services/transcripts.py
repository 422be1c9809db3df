"""Programs that play transcripts: a command line that is known gets its recorded answer, and moves on to the state that follows; any other fails.

A transcript is a list of states; a state maps a command line to [status, output, next state]. It stands in for daemons that cannot run here, and says so.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

Transcript = dict[str, dict[str, tuple[int, str, str]]]

_PLAYER = """#!{python}
import json, shlex, sys
from pathlib import Path
folder = Path({folder!r})
states = json.loads((folder / "{name}.json").read_text())
state_file = folder / "{name}.state"
state = state_file.read_text()
line = shlex.join(sys.argv[1:])
(folder / "{name}.log").open("a").write(line + "\\n")
if line not in states[state]:
    sys.exit("not in the transcript: {name} " + line + " in state " + state)
status, output, after = states[state][line]
state_file.write_text(after)
(sys.stdout if status == 0 else sys.stderr).write(output)
sys.exit(status)
"""


def player(folder: Path, name: str, transcript: Transcript, first: str) -> Path:
    """Puts the program ``name`` into ``folder``; returns the file that holds its state."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(transcript))
    state = folder / f"{name}.state"
    state.write_text(first)
    script = folder / name
    script.write_text(_PLAYER.format(python=sys.executable, folder=str(folder), name=name))
    script.chmod(0o755)
    return state


def path_with(folder: Path) -> str:
    """A PATH that finds the players first."""
    return os.pathsep.join((str(folder), os.environ["PATH"]))


def said(folder: Path, name: str) -> list[str]:
    """The command lines that were given, in order."""
    return (folder / f"{name}.log").read_text().splitlines()


def answers(**words: Any) -> str:
    """One JSON answer."""
    return json.dumps(words)
