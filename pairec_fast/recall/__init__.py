"""Where candidates come from. One file a kind; `RecallType` in the configuration is the key here."""

from pairec_fast.recall.context import ContextItemRecall
from pairec_fast.recall.hnsw import HnswRecall
from pairec_fast.recall.hot import UserGlobalHotRecall, UserGroupHotRecall
from pairec_fast.recall.similar import ItemCollaborativeFilterRecall, UserCollaborativeFilterRecall

KINDS = {
    kind.__name__: kind
    for kind in (
        ContextItemRecall,
        HnswRecall,
        ItemCollaborativeFilterRecall,
        UserCollaborativeFilterRecall,
        UserGlobalHotRecall,
        UserGroupHotRecall,
    )
}

__all__ = ["KINDS", "ContextItemRecall"]
