"""`python -m minglm` runs the command `minglm`."""

import sys

from .cli import main

sys.exit(main())
