"""How often things happen now: counts of the last seconds, in memory. Knows no storage, and no event by name."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentlightning_server.clock import SECOND, Clock

WINDOW = 60 * SECOND


@dataclass(slots=True)
class _Second:
    number: int
    events: Counter[str] = field(default_factory=Counter)


class Rates:
    """Counts events over the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock()
        self._seconds: deque[_Second] = deque(maxlen=WINDOW // SECOND + 1)

    def add(self, events: Mapping[str, int]) -> None:
        """Count what has just happened."""
        if not events:
            return
        number = self._clock() // SECOND
        if not self._seconds or self._seconds[-1].number != number:
            self._seconds.append(_Second(number))
        self._seconds[-1].events.update(events)

    def over_window(self) -> tuple[int, Counter[str]]:
        """The microseconds looked back on (a minute, or the life of this) and how often each event happened in them."""
        now = self._clock()
        window = max(SECOND, min(WINDOW, now - self._begun))
        first = (now - window) // SECOND
        return window, sum((second.events for second in self._seconds if second.number >= first), Counter())
