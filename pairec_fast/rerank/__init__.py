"""In what order candidates are shown. `SortType` in the configuration is the key here."""

from pairec_fast.rerank.diversity import DiversityRuleSort
from pairec_fast.rerank.score import ItemRankScore

KINDS = {kind.__name__: kind for kind in (DiversityRuleSort, ItemRankScore)}

__all__ = ["KINDS", "ItemRankScore"]
