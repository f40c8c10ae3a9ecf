"""The command `farthing`: starts the mesh, asks it, reports on it."""
