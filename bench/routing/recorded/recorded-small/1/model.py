"""The model is two folders up; Triton wants a file here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from recorded import TritonPythonModel

__all__ = ["TritonPythonModel"]
