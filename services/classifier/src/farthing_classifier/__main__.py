"""`python -m farthing_classifier`."""

import sys

from farthing_classifier.main import main

sys.exit(main())
