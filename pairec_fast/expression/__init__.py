"""PAI-Rec's expressions and conditions, compiled once, evaluated over columns."""

from pairec_fast.expression.rank_score import RankScore

__all__ = ["RankScore"]
