"""`python -m farthing_scheduler`."""

import sys

from farthing_scheduler.main import main

if __name__ == "__main__":
    sys.exit(main())
