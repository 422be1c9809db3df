"""What can be measured and changed here, with the command that closes each gap. Changes nothing."""

from __future__ import annotations

from perfloop.cli.output import Output
from perfloop.cli.shown import doctor_text
from perfloop.model.exit_codes import FINE, NOT_MEASURED
from perfloop.model.requests import DoctorRequest

REQUEST = DoctorRequest


def run(request: DoctorRequest, output: Output) -> int:
    """Print the checks."""
    from perfloop import api

    result = api.doctor(request)
    output.answer(doctor_text(result), result)
    return FINE if result.ok else NOT_MEASURED
