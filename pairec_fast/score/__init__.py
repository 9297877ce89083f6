"""WHAT A CANDIDATE IS WORTH: algorithms of several kinds, and the formula that makes one number of theirs."""

from pairec_fast.score.algorithms import Algorithm, Algorithms
from pairec_fast.score.easyrec import EasyRec
from pairec_fast.score.forest import Model
from pairec_fast.score.general import General, general_of
from pairec_fast.score.lookup import Lookup
from pairec_fast.score.outputs import Outputs
from pairec_fast.score.stage import Score

__all__ = [
    "Algorithm", "Algorithms", "EasyRec", "General", "Lookup", "Model", "Outputs", "Score", "general_of"
]  # fmt: skip
