"""Makes the example's modules importable as they are for its scripts, and the runner that tests train with."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "examples" / "room_selector"), str(Path(__file__).parent)]
