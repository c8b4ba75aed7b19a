"""What the end of a process means: a reward, or a failure and who is to blame. Knows no process."""

import math
import re
import signal
from typing import Final

from agentlightning.runner.failure import AttemptFailed
from agentlightning.types import Failure, FailureKind

_LONGEST: Final = 16_000
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_NOT_FINITE: Final = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_INFRASTRUCTURE_CODES: Final = {
    75: ", which asks to try again later (EX_TEMPFAIL)",
    126: ", as of a shell that may not run a program",
    127: ", as of a shell that does not find a program",
}
_INFRASTRUCTURE_SIGNALS: Final = {
    signal.SIGKILL: ", as the kernel does when memory runs out",
    signal.SIGTERM: ", by somebody else than the runner",
    signal.SIGINT: ", by somebody else than the runner",
    signal.SIGHUP: ", by somebody else than the runner",
}
_OF_SHELLS: Final = 128
"""What a shell adds to the number of the signal that ended its command."""


def failure_of_exit(code: int, last_line: str, stderr: str) -> AttemptFailed | None:
    """Why an attempt failed whose process ended with this code; None when it did not.

    Args:
        code: The exit code, negative for the number of a signal.
        last_line: The last line of standard error.
        stderr: The end of standard error.
    """
    if code == 0:
        return None
    kind, words = _how(code)
    message = f"{words}: {last_line}" if last_line else words
    return failed(kind, "ExitStatus", message, stderr)


def failed(kind: FailureKind, type: str, message: str, stderr: str = "") -> AttemptFailed:
    """The exception that says so."""
    return AttemptFailed(Failure(kind=kind, type=type, message=message[:_LONGEST], stack_trace=stderr[-_LONGEST:]))


def is_number(line: str) -> bool:
    """Whether a line is a number, be it one that is not finite."""
    return bool(_NUMBER.fullmatch(line) or _NOT_FINITE.fullmatch(line))


def reward_in(line: str) -> float:
    """The reward that a line is which is a number.

    Raises:
        AttemptFailed: It is not finite.
    """
    number = float(line)
    if math.isfinite(number):
        return number
    expected = "expected a finite number or words"
    raise failed("agent", "RewardError", f"the last line of standard output is {line!r}, {expected}")


def _how(code: int) -> tuple[FailureKind, str]:
    """Who is to blame for an exit code, and the code in words."""
    number = -code if code < 0 else code - _OF_SHELLS
    if number not in set(signal.Signals):
        hint, words = _INFRASTRUCTURE_CODES.get(code), f"exit code {code}"
    else:
        name, hint = signal.Signals(number).name, _INFRASTRUCTURE_SIGNALS.get(signal.Signals(number))
        words = f"killed by {name}" if code < 0 else f"exit code {code}, as of a shell whose command {name} killed"
    return ("agent", words) if hint is None else ("infrastructure", words + hint)
