"""Where candidates come from. One file a kind; `RecallType` in the configuration is the key here."""

from pairec_fast.recall.cold import ColdStartRecall
from pairec_fast.recall.context import ContextItemRecall
from pairec_fast.recall.hnsw import HnswRecall
from pairec_fast.recall.hot import UserGlobalHotRecall, UserGroupHotRecall
from pairec_fast.recall.lists import ItemCollaborativeFilterRecall, MockRecall, UserCustomRecall
from pairec_fast.recall.real_time import RealTimeU2IRecall
from pairec_fast.recall.similar import UserCollaborativeFilterRecall
from pairec_fast.recall.topic import UserTopicRecall
from pairec_fast.recall.vector import HologresVectorRecall, HologresVectorRecallV2, I2IVectorRecall

KINDS = {
    kind.__name__: kind
    for kind in (
        ColdStartRecall,
        ContextItemRecall,
        HnswRecall,
        HologresVectorRecall,
        HologresVectorRecallV2,
        I2IVectorRecall,
        ItemCollaborativeFilterRecall,
        MockRecall,
        RealTimeU2IRecall,
        UserCollaborativeFilterRecall,
        UserCustomRecall,
        UserGlobalHotRecall,
        UserGroupHotRecall,
        UserTopicRecall,
    )
}

__all__ = ["KINDS", "ContextItemRecall", "UserGlobalHotRecall"]
