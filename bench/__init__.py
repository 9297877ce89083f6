"""Benchmarks: one file per kernel."""
