"""`python -m farthing_cache` runs the service."""

import os
import sys

# Before NumPy is imported: its products here are small, and on a busy machine a second thread, once preempted, holds
# the event loop for a hundred milliseconds.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from farthing_cache.main import main

sys.exit(main())
