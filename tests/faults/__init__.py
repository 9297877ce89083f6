"""Faults, in full dose. The tests run a small dose of each."""
