"""In what order candidates are shown. `SortType` in the configuration is the key here."""

from pairec_fast.rerank.algo_score import AlgoScoreSort
from pairec_fast.rerank.boost import BoostScoreSort
from pairec_fast.rerank.condition import ConditionSort
from pairec_fast.rerank.distinct import DistinctIdSort
from pairec_fast.rerank.diversity import DiversityRuleSort
from pairec_fast.rerank.dpp import DPPSort
from pairec_fast.rerank.field import CustomFieldSort
from pairec_fast.rerank.mix import MultiRecallMixSort
from pairec_fast.rerank.score import ItemRankScore
from pairec_fast.rerank.ssd import SSDSort
from pairec_fast.rerank.weight import BoostScoreByWeight

KINDS = {
    kind.__name__: kind
    for kind in (
        AlgoScoreSort,
        BoostScoreByWeight,
        BoostScoreSort,
        ConditionSort,
        CustomFieldSort,
        DPPSort,
        DistinctIdSort,
        DiversityRuleSort,
        ItemRankScore,
        MultiRecallMixSort,
        SSDSort,
    )
}

__all__ = ["KINDS", "ItemRankScore"]
