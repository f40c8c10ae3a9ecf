"""`python -m farthing_accounting`."""

import sys

from farthing_accounting.main import main

if __name__ == "__main__":
    sys.exit(main())
