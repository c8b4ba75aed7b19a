"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What was looked at, in a word or two.
        verdict: `problem` when something does not work, `warning` when it may not be what one wants.
        what: What there is.
        way_out: What to do about it. Empty: nothing.
    """

    check: str
    verdict: Verdict
    what: str
    way_out: str = ""
