"""`python -m trireme`."""

import sys

from trireme._cli import main

sys.exit(main())
