"""Slow twin of the feature transforms: one item after the other, properties in a dict. *Source*: PAIREC.md 8.2."""

from __future__ import annotations

from typing import Any

from pairec_fast.expression import normalizer

NOW = 1_700_000_000.0


def user_text(value: Any) -> str:
    if isinstance(value, bool):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value == int(value) else repr(value)
    return str(value) if isinstance(value, int | str) else ""


def item_text(value: Any) -> str:
    return user_text(int(value)) if type(value) is float else user_text(value)


def transform(confs: list[dict[str, Any]], user: dict[str, Any], items: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Change `user` and the properties of `items`, each (id, name of its recall, properties)."""
    for conf in confs:
        if conf.get("FeatureStore") == "item":
            for id, recall, properties in items:
                _item(conf, user, id, recall, properties)
            if conf.get("RemoveFeatureSource") and conf["FeatureType"] == "raw_feature":
                for _, side, name in _pairs(conf):
                    if side == "user" and items:  # after all items: PAI-Rec's second one finds nothing any more
                        user.pop(name, None)
        else:
            _user(conf, user)


def _source(conf: dict[str, Any]) -> str:
    return conf.get("FeatureValue") or conf.get("FeatureSource", "")


def _made(conf: dict[str, Any]) -> Any:
    return normalizer(conf["Normalizer"], conf.get("Expression", ""), text=_source(conf), clock=lambda: NOW)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _pairs(conf: dict[str, Any]) -> list[tuple[str, str, str]]:
    if conf["FeatureType"] == "batch_raw_feature":
        both = zip(conf["FeatureName"].split(","), _source(conf).split(","), strict=True)
    else:
        both = iter([(conf["FeatureName"], _source(conf))])
    return [(name, *source.split(":")[:2]) for name, source in both if ":" in source]


def _user(conf: dict[str, Any], user: dict[str, Any]) -> None:
    kind, name = conf["FeatureType"], conf.get("FeatureName", "")
    remove = conf.get("RemoveFeatureSource", False)
    if kind in ("raw_feature", "batch_raw_feature"):
        for into, _, source in _pairs(conf):
            user[into] = user_text(user.get(source))
            if remove and kind == "raw_feature":
                user.pop(source, None)
    elif kind == "compose_feature":
        text = ""
        for source in _source(conf).split(","):
            if ":" in source:
                text += "_" + user_text(user.get(source.split(":")[1]))
                if remove:
                    user.pop(source.split(":")[1], None)
        user[name] = text
    elif kind == "delete_feature":
        for source in _source(conf).split(","):
            user.pop(source.split(":")[1] if ":" in source else source, None)
    elif kind == "new_feature":
        names = {"user": dict(user), "currentTime": int(NOW)} if conf["Normalizer"] == "expr" else dict(user)
        user[name] = _number(_made(conf).value(names))


def _item(conf: dict[str, Any], user: dict[str, Any], id: str, recall: str, item: dict[str, Any]) -> None:
    kind, name = conf["FeatureType"], conf.get("FeatureName", "")
    remove = conf.get("RemoveFeatureSource", False)
    if kind in ("raw_feature", "batch_raw_feature"):
        for into, side, source in _pairs(conf):
            if side == "user":
                item[into] = user_text(user.get(source))
                continue
            value: Any = item_text(item.get(source))
            if kind == "raw_feature" and "Normalizer" in conf:
                made = conf["Normalizer"]
                value = (
                    "" if made in ("expression", "expr") else None if made == "const_value" else _made(conf).value({})
                )
            item[into] = value
            if remove and kind == "raw_feature":
                item.pop(source, None)
    elif kind == "compose_feature":
        text = name
        for source in _source(conf).split(","):
            if ":" not in source:
                continue
            side, of = source.split(":")[:2]
            text += "_" + (user_text(user.get(of)) if side == "user" else id if of == "id" else item_text(item.get(of)))
            if remove and side != "user":
                item.pop(of, None)
        item[name] = text
    elif kind == "delete_feature":
        for source in _source(conf).split(","):
            item.pop(source.split(":")[1] if ":" in source else source, None)
    elif kind == "new_feature":
        item[name] = _new(conf, user, recall, item)


def _new(conf: dict[str, Any], user: dict[str, Any], recall: str, item: dict[str, Any]) -> Any:
    if conf["Normalizer"] == "const_value":
        return None
    source, names = _source(conf), {"currentTime": int(NOW)}
    if source == "":
        seen = {"recall_name": recall, **item}
        names = names | ({"item": seen, "user": user} if conf["Normalizer"] == "expr" else seen)
    elif source == "item:recall_name":
        names["recall_name"] = recall  # type: ignore[assignment]
    elif ":" in source:
        side, of = source.split(":")[:2]
        names[of] = (user if side == "user" else item).get(of)  # type: ignore[assignment]
    return _number(_made(conf).value(names))
