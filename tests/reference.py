"""The slow twin of every kernel: the plainest code that gives the right answer, in NumPy or pure Python."""

from __future__ import annotations

import numpy as np
