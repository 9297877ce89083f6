"""The slow twin of experiment matching: PAIREC.md 10.2 to 10.4 read aloud over the JSON, nothing prepared.

A filter is a Python function here: `FILTERS` has the text and what it means.
"""

from __future__ import annotations

import hashlib
import json
import re
import time


def number(value):
    """A boolean has no order."""
    if isinstance(value, bool):
        raise TypeError(value)
    return value


GLOBAL = "pairec_abtest_global_scene"
FILTERS = {
    "age > 30": lambda given: number(given["age"]) > 30,
    "city == 'x'": lambda given: given["city"] == "x",
    "city in ('x', 'y') && age <= 30": lambda given: given["city"] in ("x", "y") and number(given["age"]) <= 30,
    "flag": lambda given: given["flag"] is True or str(given["flag"]).lower() in ("true", "y"),
    "level >= 2": lambda given: number(given["level"]) >= 2,
}


def fnv1(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = value * 0x100000001B3 % 2**64
        value = value ^ byte
    return value


def hash_of(text: str) -> int:
    return fnv1(hashlib.md5(text.encode()).digest())


def bucket_set(text: str, count: int) -> set[int]:
    found = set()
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) == 1 and re.fullmatch(r"[+-]?\d+", part):
            found.add(int(part))
        elif len(ends) == 2 and all(re.fullmatch(r"[+-]?\d+", end) for end in ends):
            number = int(ends[0])
            while number < int(ends[1]) and number <= count:
                found.add(number)
                number += 1
    return found


def holds(text: str, given: dict) -> bool:
    try:
        return bool(FILTERS[text](given))
    except (KeyError, TypeError):
        return False


def is_debug(uid: str, node: dict) -> bool:
    listed = node.get("debug_users", "")
    crowd = node.get("debug_crowd_users", []) + node.get("debug_crowd_id_users", [])
    return uid in crowd or (listed != "" and uid in listed.split(","))


def room_of(rooms: list, uid: str, given: dict):
    for room in rooms:
        if is_debug(uid, room):
            return room
    for room in rooms:
        if room["type"] == 1:
            continue
        count, kind = room.get("bucket_count", 0), room.get("bucket_type", 0)
        taken = bucket_set(room.get("exp_room_buckets", ""), count)
        if kind == 1 and re.fullmatch(r"[0-9]+", uid) and int(uid) < 2**64 and int(uid) % count in taken:
            return room
        if kind == 2 and hash_of(uid) % count in taken:
            return room
        if kind == 4 and holds(room["filter"], given):
            return room
    return next((room for room in rooms if room["type"] == 1), None)


def group_of(room: dict, layer: dict, uid: str, given: dict):
    groups = layer["experiment_groups"]
    kind = lambda group: group.get("crowd_target_type", "")  # noqa: E731
    for group in groups:
        if is_debug(uid, group):
            return group
    for group in groups:
        has_filter, crowd = group.get("filter", "") != "", group.get("crowd_id", 0)
        if (kind(group) == "Filter" or (kind(group) == "" and has_filter)) and holds(group["filter"], given):
            return group
        if kind(group) == "CrowdId" or (kind(group) == "" and not has_filter and crowd > 0):
            users = [one.strip() for entry in group.get("crowd_users", []) for one in entry.split(",")]
            if uid in users:
                return group
    for group in groups:
        bucket = hash_of(f"{uid}_EXPROOM{room['exp_room_id']}_LAYER{layer['layer_id']}") % 100
        if kind(group) == "Random" and bucket in bucket_set(group.get("holding_buckets", ""), 100):
            return group
    for group in groups:
        if kind(group) == "All" or (kind(group) == "" and not group.get("filter") and not group.get("crowd_id")):
            return group
    return None


def experiment_of(room: dict, layer: dict, group: dict, uid: str, now: float):
    """The experiment, and whether it counts as the default."""
    takers = [one for one in group["experiments"] if one["type"] != 3]
    for one in takers:
        if is_debug(uid, one):
            return one, False
    place = f"EXPROOM{room['exp_room_id']}_LAYER{layer['layer_id']}_EXPGROUP{group['exp_group_id']}"
    who = uid
    if group.get("distribution_type") == 2:
        day = time.strftime("%Y%m%d", time.localtime(now))
        who = f"{day}_{int(now) % 86400 // (group['distribution_time_duration'] * 60)}"
    bucket = hash_of(f"{who}_{place}") % 100
    for one in takers:
        flow = one["experiment_flow"]
        if flow == 100 or (flow > 0 and bucket in bucket_set(one.get("experiment_buckets", ""), 100)):
            return one, False
    for kind in (3, 1):
        for one in reversed(group["experiments"]):
            if one["type"] == kind:
                return one, True
    return None, True


def scalar(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else "<nil>" if value is None else f"{value:g}"


def settings(text: str, above: dict) -> dict:
    for name, value in above.items():
        if not isinstance(value, dict | list):
            text = text.replace("${" + name + "}", scalar(value))
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def walk(scene: str, rooms: list, uid: str, given: dict, above: dict, now: float):
    room = room_of(rooms, uid, given)
    parts = [] if room is None or scene == GLOBAL else [f"ER{room['exp_room_id']}"]
    params: dict = {}
    for layer in [] if room is None else room["layers"]:
        part = ("GL" if scene == GLOBAL else "L") + str(layer["layer_id"])
        group = group_of(room, layer, uid, given)
        if group is not None:
            part += f"#EG{group['exp_group_id']}"
            params.update(settings(group.get("exp_group_config", ""), above))
            one, is_default = experiment_of(room, layer, group, uid, now)
            if one is not None:
                part += "" if is_default else f"#E{one['experiment_id']}"
                params.update(settings(one.get("experiment_config", ""), above))
        parts.append(part)
    return "_".join(parts), params


def match(scenes: dict[str, list], scene: str, uid: str, given: dict, now: float) -> tuple[str, dict]:
    """`scenes` is name -> rooms. Gives `exp_id` and the parameters."""
    if scene not in scenes:
        return "", {}
    if GLOBAL not in scenes or scene == GLOBAL:
        return walk(scene, scenes[scene], uid, given, {}, now)
    global_id, above = walk(GLOBAL, scenes[GLOBAL], uid, given, {}, now)
    own_id, own = walk(scene, scenes[scene], uid, {**given, **above}, above, now)
    params = dict(above)
    for name, value in above.items():
        if name.startswith(scene + "."):
            params.setdefault(name[len(scene) + 1 :], value)
    params.update(own)
    exp_id = f"{own_id}_{global_id}" if global_id else own_id
    return exp_id, params
