"""Offline: read tables, make worlds to try things on, train rankers, import models. May import lightgbm and pyarrow."""

from pairec_fast.learn.import_model import ImportedModel, import_model

__all__ = ["ImportedModel", "import_model"]
