"""What a request falls into: hashing a user into each layer, and one look-up of what comes out."""

from __future__ import annotations

import itertools

import pytest

from pairec_fast.experiment import GLOBAL_SCENE, Experiments, hash_of


def tree(name: str, layers: int, filters: int = 0) -> dict:
    """Each layer splits users in halves, behind so many groups whose filters do not hold."""

    def group(id: int, **more) -> dict:
        experiments = [
            {
                "experiment_id": id * 10 + half, "type": 1 + half, "experiment_flow": 50,
                "experiment_buckets": f"{half * 50}-{half * 50 + 50}", "experiment_config": f'{{"{name}{id}": {half}}}',
            }
            for half in (0, 1)
        ]  # fmt: skip
        return {"exp_group_id": id, "crowd_target_type": "All", "experiments": experiments} | more

    def layer(id: int) -> dict:
        others = [
            group(id * 100 + one, crowd_target_type="Filter", filter=f"age > {100 + one} && city in ('x', 'y')")
            for one in range(filters)
        ]
        return {"layer_id": id, "layer_name": f"layer {id}", "experiment_groups": [*others, group(id)]}

    rooms = [{"exp_room_id": 1, "type": 1, "layers": [layer(id + 1) for id in range(layers)]}]
    return {"scene": name, "rooms": rooms}


@pytest.mark.parametrize("layers", [1, 2, 4])
def bench_match(timed, layers):
    match, uid = Experiments.parse(tree("s", layers)).match, itertools.cycle(f"{k:08}" for k in range(1000))
    timed(lambda: match("s", next(uid)))


def bench_match_two_filters_a_layer(timed):
    match, uid = Experiments.parse(tree("s", 2, filters=2)).match, itertools.cycle(f"{k:08}" for k in range(1000))
    timed(lambda: match("s", next(uid), {"age": 30.0, "city": "x"}))


def bench_match_under_a_global_layer(timed):
    match = Experiments.parse([tree("s", 2), tree(GLOBAL_SCENE, 1)]).match
    uid = itertools.cycle(f"{k:08}" for k in range(1000))
    timed(lambda: match("s", next(uid)))


def bench_hash(timed):
    timed(hash_of, "1034416498_EXPROOM1_LAYER1_EXPGROUP1")
