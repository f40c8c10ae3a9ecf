"""The command `farthing`: starts the mesh, asks it, and reports on it."""
