"""Recalls that are a service of the cloud: they may stand in a file, and no scene can use them here."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.errors import ConfigError


class _Cloud(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    name: str
    recall_count: int = 0
    instead: ClassVar[str]

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: always, with what would be right."""
        raise ConfigError(
            f"RecallConfs.{self.name}: {type(self).__name__} asks a service that is not available here; "
            f"use {self.instead}"
        )


class VectorRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks a FAISS server."""

    instead: ClassVar[str] = '"HnswRecall", vectors of the snapshot'


class OnlineHologresVectorRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks a model for an embedding and Hologres for its neighbours."""

    instead: ClassVar[str] = '"HnswRecall" with vectors of users in the snapshot'


class OnlineVectorRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks a model for items."""

    instead: ClassVar[str] = '"HnswRecall" with vectors of users in the snapshot'


class MilvusVectorRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks Milvus; PAI-Rec does not start with it either."""

    instead: ClassVar[str] = '"HnswRecall", vectors of the snapshot'


class BeRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks the BE engine."""

    instead: ClassVar[str] = '"UserCollaborativeFilterRecall" or "HnswRecall" on tables of the snapshot'


class RecallEngineRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks the recall engine."""

    instead: ClassVar[str] = '"UserCollaborativeFilterRecall" or "HnswRecall" on tables of the snapshot'


class GraphRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks a graph service."""

    instead: ClassVar[str] = '"UserCollaborativeFilterRecall" on an item-to-item table'


class OpenSearchRecall(_Cloud, frozen=True, kw_only=True, rename="pascal"):
    """Asks a search service."""

    instead: ClassVar[str] = '"ContextItemRecall" with the items that the search has found in the request'


CLOUD = (
    VectorRecall, OnlineHologresVectorRecall, OnlineVectorRecall, MilvusVectorRecall, BeRecall, RecallEngineRecall,
    GraphRecall, OpenSearchRecall,
)  # fmt: skip
