"""The door of the command line: verbs load when they are used, errors are rendered here and nowhere else."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Sequence

import click

from perfloop import __version__
from perfloop.cli.verbs import VERBS
from perfloop.errors import PerfloopError
from perfloop.model.exit_codes import ASKED_WRONGLY, EXIT_CODES, FINE, INTERRUPTED, NOT_MEASURED

_ADDRESS = re.compile(r"^(https?://|[A-Za-z0-9.-]+:\d{1,5}(/|$)|\[[0-9a-fA-F:]+\]:\d)")
#: flags of every verb, which may also stand before the verb, and whether a value follows
_GLOBAL = {
    "--json": 0,
    "-q": 0,
    "--quiet": 0,
    "-v": 0,
    "--verbose": 0,
    "--no-color": 0,
    "--no-input": 0,
    "-o": 1,
    "--output": 1,
    "--config": 1,
    "--progress": 1,
}


class VerbGroup(click.Group):
    """The verbs, in their groups, each loaded from its own file when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs in the order of the help text."""
        return [verb for verbs in VERBS.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one verb; ``UsageError`` with a suggestion where there is none."""
        if cmd_name not in self.list_commands(ctx):
            close = difflib.get_close_matches(cmd_name, self.list_commands(ctx), n=1)
            hint = f"; did you mean {close[0]}?" if close else "; perfloop --help lists the verbs"
            raise click.UsageError(f"there is no verb {cmd_name!r}{hint}")
        from perfloop.cli.options import load_verb

        return load_verb(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by group, and the exit codes."""
        for group, verbs in VERBS.items():
            with formatter.section(group):
                formatter.write_dl(list(verbs.items()))
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text.split(". ")[0].rstrip(".")) for code, text in EXIT_CODES.items()])


@click.group(
    cls=VerbGroup, no_args_is_help=True, subcommand_metavar="VERB [OPTIONS]", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", prog_name="perfloop", message="%(prog)s %(version)s")
def perfloop() -> None:
    """The performance engineer in software: measures, finds the cause, changes, proves, and undoes.

    perfloop http://localhost:8000 checks a service. perfloop demo shows the whole loop on a bundled one.
    """


def normalise(arguments: Sequence[str]) -> list[str]:
    """The arguments with global flags moved behind the verb, and ``check`` put before a bare URL."""
    rest, moved = list(arguments), []
    while rest and (name := rest[0].split("=", 1)[0]) in _GLOBAL:
        count = 1 + (_GLOBAL[name] if "=" not in rest[0] else 0)
        moved += rest[:count]
        rest = rest[count:]
    if rest and _ADDRESS.match(rest[0]):
        rest = ["check", *rest]
    if not rest and moved:
        return ["--help"]
    return [rest[0], *moved, *rest[1:]] if moved else rest


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error ends here."""
    as_json = "--json" in arguments
    try:
        code = perfloop.main(args=normalise(arguments), prog_name="perfloop", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else FINE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ASKED_WRONGLY
    except click.ClickException as error:
        usage = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "perfloop"
        message = error.format_message().rstrip(".")
        return _told(PerfloopError(message[:1].lower() + message[1:], fix=f"{usage} --help"), ASKED_WRONGLY, as_json)
    except PerfloopError as error:
        return _told(error, error.exit_code, as_json)
    except (KeyboardInterrupt, click.Abort):
        return _told(PerfloopError("interrupted"), INTERRUPTED, as_json)
    except BrokenPipeError:  # the reader of our output has left, as in `perfloop log | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except Exception as error:  # noqa: BLE001 - the door: whatever else went wrong is written down and told as one message
        from perfloop.cli.crash import crashed

        return _told(crashed(error), NOT_MEASURED, as_json)


def _told(error: PerfloopError, code: int, as_json: bool) -> int:
    """Print an error once: text to stderr, and with ``--json`` one object to stdout."""
    from perfloop.cli.render import error_json, error_text

    click.echo(error_text(error), err=True)
    if as_json:
        click.echo(error_json(error, code))
    return code


def main() -> None:
    """Entry point of ``perfloop`` and ``python -m perfloop``."""
    sys.exit(run(sys.argv[1:]))
