"""What a request loads by its keys, the user's and the candidates', and the transforms that follow each load.

`UserFeatureConfs` before recall, `FeatureConfs` before rank. Source: PAIREC.md 2.9 and 8.
"""

from pairec_fast.load.load import Load, loads

__all__ = ["Load", "loads"]
