"""What inference does, one module for each use case."""
