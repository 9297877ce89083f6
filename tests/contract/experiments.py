"""The suites ab_hash, ab_bucket and ab_match."""

from __future__ import annotations

from typing import Any

from pairec_fast.experiment import Experiments, bucket_set, hash_of


def run_hash(given: dict[str, Any]) -> Any:
    found = hash_of(given["hash_key"])
    return {"hash": str(found), "bucket_of_100": found % 100}


def run_bucket(given: dict[str, Any]) -> Any:
    """The buckets that a text names, or whether a room of such buckets takes a user."""
    if "uid" not in given:
        return {"set": sorted(bucket_set(given["buckets"], given["bucket_count"]))}
    room = {
        "exp_room_id": 1, "type": 2, "bucket_type": given["bucket_type"], "bucket_count": given["bucket_count"],
        "exp_room_buckets": given["buckets"],
    }  # fmt: skip
    return Experiments.parse({"scene": "s", "rooms": [room]}).match("s", given["uid"]).exp_id == "ER1"


def run_match(given: dict[str, Any], expected: dict[str, Any]) -> Any:
    """What a user falls into, and, where it is asked for, the bucket in the first layer that has a group for them."""
    experiments = Experiments.parse(given["data"])
    scene = given.get("scene") or experiments.scenes[0]
    request = scene, given["uid"], given.get("filter_params", {})
    match = experiments.match(*request)
    found: dict[str, Any] = {"exp_id": match.exp_id, "params": dict(match.params)}
    if "bucket" in expected:
        room, choices = experiments.choices(*request)
        layer, group = next((one.layer, one.group) for one in choices if one.group is not None)
        place = f"_EXPROOM{room.room.exp_room_id}_LAYER{layer.layer_id}_EXPGROUP{group.exp_group_id}"
        found["bucket"] = hash_of(given["uid"] + place) % 100
    return found
