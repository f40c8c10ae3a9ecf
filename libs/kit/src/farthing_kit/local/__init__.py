"""The real servers that the mesh needs, from installed packages, as child processes: for `farthing up` and tests."""
