"""`python -m farthing_gateway` runs the service."""

import sys

from farthing_gateway.main import main

sys.exit(main())
