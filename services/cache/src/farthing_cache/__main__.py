"""`python -m farthing_cache` runs the service."""

import sys

from farthing_cache.main import main

sys.exit(main())
