"""Which candidates may be shown. `FilterType` in the configuration is the key here."""

from pairec_fast.filter.exposure import User2ItemExposureFilter
from pairec_fast.filter.item_state import ItemStateFilter
from pairec_fast.filter.unique import UniqueFilter

KINDS = {kind.__name__: kind for kind in (ItemStateFilter, UniqueFilter, User2ItemExposureFilter)}

__all__ = ["KINDS", "UniqueFilter"]
