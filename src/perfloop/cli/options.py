"""Options from request models: a field becomes an option or argument, and the model checks the values."""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from perfloop.cli.output import Output
from perfloop.errors import UsageError
from perfloop.host.secrets import redact
from perfloop.model.requests import Door, Request
from perfloop.model.wording import reason

GLOBAL_NAMES = frozenset({"config", "as_json", "output", "quiet", "verbose", "no_color", "no_input", "progress"})


class VerbArgument(click.Argument):
    """A positional argument that says what it is."""

    about = ""


class VerbCommand(click.Command):
    """A command whose help shows its own options first and those of every verb after them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Three sections instead of one."""
        arguments = [(parameter.metavar or "", parameter.about) for parameter in self.params if isinstance(parameter, VerbArgument)]
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue
            record = parameter.get_help_record(ctx)
            if record is not None:
                (shared if parameter.name in GLOBAL_NAMES | {"help"} else own).append(record)
        for title, records in (("Arguments", arguments), ("Options", own), ("Options of every verb", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def load_verb(name: str) -> click.Command:
    """The command of one verb from its file ``perfloop/cli/verbs/<name>.py``."""
    module = import_module(f"perfloop.cli.verbs.{name.replace('-', '_')}")
    return build(name, module.REQUEST, module.run, (module.__doc__ or "").strip())


def build(name: str, model: type[Request], run: Callable[[Any, Output], int], text: str) -> click.Command:
    """A command with the options of ``model`` that calls ``run(request, output)`` and returns its exit code."""
    fields = {key: field for key, field in model.model_fields.items() if not _door(field).hidden}

    def call(**values: Any) -> int:
        shared = {key: values.pop(key) for key in GLOBAL_NAMES}
        given = {key: value for key, value in values.items() if value is not None and value is not False and value != ()}
        given |= {key: shared[key] for key in ("config", "no_input") if key in model.model_fields and shared[key]}
        request = validated(model, given)
        return run(request, Output.opened(shared))

    parameters = [_parameter(key, field) for key, field in fields.items()] + shared_options()
    command = VerbCommand(name, callback=call, params=parameters, help=text, epilog=None)
    command.allow_interspersed_args = not any(_door(field).rest for field in fields.values())  # what follows a command is the command's
    return command


def validated(model: type[Request], given: dict[str, Any]) -> Any:
    """The request; ``UsageError`` names the option, the value and the bound."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        field = model.model_fields.get(key)
        raise UsageError(f"invalid value for {label(key, field)}: {redact(reason(first))}", hint=field.description or "" if field else "") from None


def label(key: str, field: FieldInfo | None) -> str:
    """How a field is called on the command line."""
    return key.upper() if field and _door(field).argument else "--" + key.replace("_", "-")


def shared_options() -> list[click.Parameter]:
    """The options that every verb has, with the same meaning everywhere."""
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="One JSON object to stdout, nothing else there."),
        click.Option(["-o", "--output"], metavar="FILE", help="Write the answer to a file instead of stdout."),
        click.Option(["--config"], metavar="FILE", help="Configuration file; default: perfloop.toml or pyproject.toml here."),
        click.Option(["-q", "--quiet"], is_flag=True, help="No progress; warnings and errors only."),
        click.Option(
            ["--progress"],
            type=click.Choice(["auto", "jsonl", "none"]),
            default="auto",
            help="How progress is told on stderr: for people, as one JSON object a line for agents, or not at all.",
        ),
        click.Option(["-v", "--verbose"], is_flag=True, help="All endpoints, findings and evidence."),
        click.Option(["--no-color"], is_flag=True, help="No colours (also NO_COLOR)."),
        click.Option(["--no-input"], is_flag=True, help="Never ask; what would need an answer is not done."),
    ]


def _door(field: FieldInfo) -> Door:
    return next((item for item in field.metadata if isinstance(item, Door)), Door())


def _parameter(key: str, field: FieldInfo) -> click.Parameter:
    kind, many = _kind(field.annotation)
    if _door(field).rest:
        rest = VerbArgument([key], required=True, nargs=-1, metavar=key.upper() + " …", type=click.UNPROCESSED)
        rest.about = (field.description or "").rstrip()
        return rest
    if _door(field).argument:
        required = field.is_required()
        argument = VerbArgument([key], required=required, metavar=key.upper() if required else f"[{key.upper()}]", type=str)
        argument.about = (field.description or "").rstrip()
        return argument
    text = (field.description or "").rstrip()
    names = ["--" + key.replace("_", "-"), key]
    if kind is bool:
        return click.Option(names, is_flag=True, help=text)
    choices = _choices(kind)
    if many:
        return click.Option(names, callback=_split, metavar="NAME,…", help=f"{text} Known: {', '.join(choices)}." if choices else text)
    shown = field.default not in (None, "", ()) and not field.is_required()
    metavar = "|".join(choices) if choices else {int: "N", float: "N"}.get(kind, "TEXT")
    return click.Option(names, metavar=metavar, help=f"{text} Default: {field.default}." if shown else text)


def _split(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value else ()


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The plain type of an annotation without None and Annotated, and whether several values are taken."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    if origin is tuple:
        return _kind(get_args(annotation)[0])[0], True
    if hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    return annotation, False


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(str(item) for item in get_args(kind))
    return tuple(str(item.value) for item in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()
