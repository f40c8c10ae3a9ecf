"""What accounting does, one module for each use case: which effects happen, in which order."""
