"""The benchmark's modules are scripts beside each other: here is where they are found."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
