"""`python -m minglm` is `minglm`."""

import sys

from .cli import main

sys.exit(main())
