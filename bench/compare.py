"""`python -m bench.compare BASE HEAD [--times 12] [--fail p99:10%] [-- bench/bench_rerank.py -k top_k]`.

Builds both revisions into environments of their own (kept by commit in the user's cache, printed) and runs HEAD's
benchmarks on both in turns: `pairec_fast.latency.compare`, with this project's folders. `--instructions` counts instead
of timing, at the AVX2 level unless `PAIREC_ISA` names another that callgrind knows.
"""

from __future__ import annotations

import os
import sys

from pairec_fast.latency import compare

if __name__ == "__main__":
    if "--instructions" in sys.argv:
        os.environ.setdefault("PAIREC_ISA", "avx2")
    sys.exit(compare.main(sys.argv[1:], paths=("bench", "tests"), program="python -m bench.compare"))
