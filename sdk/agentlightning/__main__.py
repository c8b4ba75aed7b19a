"""`python -m agentlightning` is `agl`."""

import sys

from agentlightning.cli import main

sys.exit(main())
