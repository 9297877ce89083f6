"""`python -m pairec_fast` is `pairec-fast`."""

import sys

from pairec_fast.cli import main

sys.exit(main())
