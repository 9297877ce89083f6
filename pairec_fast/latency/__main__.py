"""`python -m pairec_fast.latency BASE HEAD -- bench/`."""

import sys

from pairec_fast.latency.compare import main

sys.exit(main(sys.argv[1:]))
