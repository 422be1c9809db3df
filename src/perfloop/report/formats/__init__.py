"""The built-in formats, one file each; a format has an ``ID``, an ``EXTENSION`` and a pure ``render(result)``."""

BUILTIN = (
    "perfloop.report.formats.terminal",
    "perfloop.report.formats.html",
    "perfloop.report.formats.markdown",
    "perfloop.report.formats.json_format",
    "perfloop.report.formats.junit",
    "perfloop.report.formats.handover",
)
