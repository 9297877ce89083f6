"""PAI-Rec's expressions and conditions, compiled once, evaluated over columns."""

from pairec_fast.expression.condition import Condition, check, depends_on_user, matches
from pairec_fast.expression.mask import Column, mask
from pairec_fast.expression.rank_score import RankScore

__all__ = ["Column", "Condition", "RankScore", "check", "depends_on_user", "mask", "matches"]
