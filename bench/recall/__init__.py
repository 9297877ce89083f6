"""Recall against latency, ours beside other libraries: `python -m bench.recall`."""
