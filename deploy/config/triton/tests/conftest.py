"""Lets tests import what runs inside Triton, as far as it needs nothing of Triton's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
