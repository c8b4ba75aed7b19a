"""Makes the example's modules importable as they are for its scripts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "room_selector"))
