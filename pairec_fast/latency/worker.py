"""pytest with this plugin, whatever build is installed: `python -P worker.py ARGUMENTS`.

A base from before the plugin, or with an older one, is measured by the same code as the head: the plugin of who
compares is put where an import finds it first, without importing the package it lies in.
"""

import importlib.util
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def main() -> int:
    if importlib.util.find_spec("pairec_fast") is None:  # a project that never runs the engine need not have it
        sys.modules["pairec_fast"] = ModuleType("pairec_fast")
        sys.modules["pairec_fast"].__path__ = []
    spec = importlib.util.spec_from_file_location(
        "pairec_fast.latency", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["pairec_fast.latency"] = package
    spec.loader.exec_module(package)
    import pytest

    plugin = importlib.import_module("pairec_fast.latency.plugin")
    loads = not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    known = loads and any(point.name == plugin.NAME for point in entry_points(group="pytest11"))
    return pytest.main(sys.argv[1:], plugins=[] if known else [plugin])


if __name__ == "__main__":
    sys.exit(main())
