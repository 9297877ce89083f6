"""The gate on tails: a pytest plugin that measures calls, keeps the samples, and says pass, regress or inconclusive.

Nothing here knows of the engine: no compiled module is loaded, and neither is NumPy.
"""
