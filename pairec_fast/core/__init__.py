"""The compiled core. Pointers live here and nowhere else: check, drop the GIL, call, count."""

from pairec_fast.core.aggregate import aggregate
from pairec_fast.core.arena import Arena
from pairec_fast.core.callback import CallbackBody
from pairec_fast.core.checksum import crc32c
from pairec_fast.core.dpp import Dpp
from pairec_fast.core.entries import Entries
from pairec_fast.core.expand import expand
from pairec_fast.core.features import Cross, Crosses
from pairec_fast.core.filter import drop_exposed, keep, keep_allowed, select
from pairec_fast.core.forest import Forest
from pairec_fast.core.forest_request import RequestForest
from pairec_fast.core.idmap import IdMap, build_slots
from pairec_fast.core.index import VectorIndex
from pairec_fast.core.index_filter import Filter, Lists
from pairec_fast.core.join import join
from pairec_fast.core.kafka import KafkaLog
from pairec_fast.core.mapping import MappedFile
from pairec_fast.core.overlay import Overlay
from pairec_fast.core.protobuf import map_of_doubles
from pairec_fast.core.recall import Neighbours, add, in_turn, merge, nearest
from pairec_fast.core.repair import repair_segments
from pairec_fast.core.rerank import (
    DiversityRules,
    ValueLists,
    in_order,
    mix,
    order_by,
    order_by_score,
    set_order,
    top_k,
)
from pairec_fast.core.ring import Log, Ring, read_segments, recover, verify_segments
from pairec_fast.core.segment import Segment, list_segments
from pairec_fast.core.shown import Shown, ShownItems
from pairec_fast.core.ssd import Ssd

__all__ = [
    "Arena",
    "CallbackBody",
    "Cross",
    "Crosses",
    "DiversityRules",
    "Dpp",
    "Entries",
    "Filter",
    "Forest",
    "IdMap",
    "KafkaLog",
    "Lists",
    "Log",
    "MappedFile",
    "Neighbours",
    "Overlay",
    "RequestForest",
    "Ring",
    "Segment",
    "Shown",
    "ShownItems",
    "Ssd",
    "ValueLists",
    "VectorIndex",
    "add",
    "aggregate",
    "build_slots",
    "crc32c",
    "drop_exposed",
    "expand",
    "in_order",
    "in_turn",
    "join",
    "keep",
    "keep_allowed",
    "list_segments",
    "map_of_doubles",
    "merge",
    "mix",
    "nearest",
    "order_by",
    "order_by_score",
    "read_segments",
    "recover",
    "repair_segments",
    "select",
    "set_order",
    "top_k",
    "verify_segments",
]
