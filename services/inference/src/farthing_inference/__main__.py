"""`python -m farthing_inference`."""

import sys

from farthing_inference.main import main

sys.exit(main())
