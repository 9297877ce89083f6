"""PAI-Rec's expressions and conditions, compiled once, evaluated over columns."""

from pairec_fast.expression.condition import Condition, check, depends_on_user, matches
from pairec_fast.expression.expr import expr
from pairec_fast.expression.govaluate import govaluate
from pairec_fast.expression.mask import mask
from pairec_fast.expression.normalizer import Normalizer, normalizer
from pairec_fast.expression.rank_score import RankScore
from pairec_fast.expression.score_expression import ScoreExpression, compile
from pairec_fast.expression.syntax import ROW, Expression
from pairec_fast.expression.value import Failure
from pairec_fast.expression.vector import Column

__all__ = [
    "ROW",
    "Column",
    "Condition",
    "Expression",
    "Failure",
    "Normalizer",
    "RankScore",
    "ScoreExpression",
    "check",
    "compile",
    "depends_on_user",
    "expr",
    "govaluate",
    "mask",
    "matches",
    "normalizer",
]
