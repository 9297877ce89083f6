"""The whole file as a JSON Schema (2020-12), for editors: what the Structs say, and each plug-in by its type name.

What the engine takes is valid; not all that is valid is right. Keys in another case than PAI-Rec's and unknown ones,
which are warnings, are let through, and names are not resolved.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from msgspec import Struct

from pairec_fast.config.kinds import STAGES, Kinds
from pairec_fast.config.sections import Sections
from pairec_fast.config.shapes import DPP

_TEMPLATE = "#/$defs/{name}"


def schema(kinds: Kinds) -> dict[str, Any]:
    """The schema with the plug-ins of `kinds`."""
    entries = {stage: getattr(kinds, stage) for stage in STAGES}
    structs = _structs([Sections, *(cls for registry in entries.values() for cls in registry.values())])
    extra = {
        (cls, key): kind for cls in structs for key, kind in getattr(cls, "untyped", {}).items()
    }  # fmt: skip
    shapes = [*(stage.shape for stage in STAGES.values()), DPP]
    given = [*structs, *shapes, *extra.values()]
    schemas, components = msgspec.json.schema_components(given, ref_template=_TEMPLATE)
    of = dict(zip([*structs, *shapes], schemas, strict=False))
    for (cls, key), kind in zip(extra, schemas[len(structs) + len(shapes) :], strict=True):
        _properties(components, of[cls])[key] = kind
    for cls in structs:
        if hasattr(cls, "untyped"):
            _properties(components, of[cls]).pop("Raw", None)
    top = _properties(components, of[Sections])
    for name, registry in entries.items():
        stage = STAGES[name]
        common = {
            key: {"$ref": f"{of[stage.shape]['$ref']}/properties/{key}"}
            for key in _properties(components, of[stage.shape])
            if key != stage.tag
        }
        forms = []
        for kind, cls in registry.items():
            own = _properties(components, of[cls])
            own.pop(stage.tag, None)
            others = {key: part for key, part in common.items() if key not in own}
            forms.append({"title": kind, "allOf": [of[cls]], **_tagged(stage.tag, [kind], others)})
        if cloud := sorted(stage.cloud - set(registry)):
            forms.append({"title": "needs a service of the cloud", **_tagged(stage.tag, cloud, common)})
        top[stage.section] = {"type": "array", "items": {"oneOf": forms}}
    if (dpp := entries["sort"].get("DPPSort")) is not None:  # this section has such sorts, each by its own fields
        (own_conf,) = (field.type for field in msgspec.structs.fields(dpp) if field.encode_name == "DPPConf")
        top["DPPConf"] = {"type": "array", "items": {"allOf": [of[own_conf], of[DPP]]}}
    for component in components.values():
        _accept_null(component)
    whole: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "engine.json"}
    body = components.pop(of[Sections]["$ref"].rpartition("/")[2])
    whole |= {"type": "object", "properties": body["properties"], "$defs": components}
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))  # defaults are plain JSON then
    return made


def _structs(classes: list[type[Struct]]) -> list[type[Struct]]:
    """The Struct classes given and those of their fields, however deep, each once."""
    found: dict[type[Struct], None] = {}

    def visit(kind: Any) -> None:
        for part in get_args(kind):
            visit(part)
        if isinstance(kind, type) and issubclass(kind, Struct) and kind not in found:
            found[kind] = None
            for field in msgspec.structs.fields(kind):
                visit(field.type)
            for other in getattr(kind, "untyped", {}).values():
                visit(other)

    for cls in classes:
        visit(cls)
    return list(found)


def _component(components: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    component: dict[str, Any] = components[reference["$ref"].rpartition("/")[2]]
    return component


def _properties(components: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = _component(components, reference).setdefault("properties", {})
    return properties


def _tagged(tag: str, kinds: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    """What an entry of one of `kinds` has beside what its Struct says."""
    return {"type": "object", "properties": {tag: {"enum": kinds}, **properties}, "required": [tag]}


def _accept_null(component: dict[str, Any]) -> None:
    """Null is as good as missing, wherever a key is optional: as in Go."""
    properties = component.get("properties", {})
    for name, part in properties.items():
        if part.get("default", "") is None:  # of a shape: says nothing
            del part["default"]
        if name in component.get("required", []) or not part or {"type": "null"} in part.get("anyOf", []):
            continue
        if "type" in part:
            properties[name] = part | {"type": [part["type"], "null"]}
        else:
            properties[name] = {"anyOf": [part, {"type": "null"}]}
