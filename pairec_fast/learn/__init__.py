"""Offline: read tables, make worlds to try things on, train rankers. May import lightgbm, scipy and pyarrow."""
