"""`python -m jnas` is the `jnas` command."""

import sys

from jnas.cli import main

sys.exit(main())
