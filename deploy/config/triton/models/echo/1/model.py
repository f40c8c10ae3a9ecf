"""The model is in deploy/config/triton/python; Triton wants a file here."""

from farthing_triton.echo import TritonPythonModel

__all__ = ["TritonPythonModel"]
