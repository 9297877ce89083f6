"""Training: what is a feature, what is held out, what is written, and what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from pairec_fast.errors import ConfigError, PairecError, SnapshotError
from pairec_fast.features import Feature, FeatureSchema

pa = pytest.importorskip("pyarrow")
lgb = pytest.importorskip("lightgbm")
import pyarrow.csv as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from pairec_fast.learn import measure  # noqa: E402
from pairec_fast.learn.table import read_table  # noqa: E402
from pairec_fast.learn.train import fit_ranker, train_table  # noqa: E402

KINDS = ["apple", "bean", "corn", "date"]


def rows(count=3_000, seed=0):
    """Interactions whose clicks come from the kind, the affinity and the price; 10 rows a request."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, count)
    affinity, price = rng.random(count), rng.lognormal(3, 1, count)
    logit = 3.0 * affinity - 2.5 + np.array([-1.0, 0.0, 0.5, 1.0])[kind] - 0.01 * price
    return {
        "user_id": [f"u{user}" for user in rng.integers(0, 200, count)],
        "item_id": [f"i{item}" for item in rng.integers(0, 500, count)],
        "request_id": np.arange(count) // 10,
        "timestamp": 1_790_000_000 + np.arange(count) // 10 * 60,
        "position": np.arange(count) % 10 + 1,
        "kind": [
            KINDS[code] if code_null > 0.05 else None for code, code_null in zip(kind, rng.random(count), strict=True)
        ],
        "category_affinity": affinity,
        "price": price,
        "is_new": rng.random(count) < 0.3,
        "clicked": (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(int),
    }


def table(path, without=(), **changed):
    columns = {name: column for name, column in (rows() | changed).items() if name not in without}
    content = pa.table(columns)
    if path.suffix == ".csv":
        pc.write_csv(content, path)
    else:
        pq.write_table(content, path)
    return path


def files(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_model_and_schema_are_written_and_reproduce_the_holdout(tmp_path, suffix):
    path = table(tmp_path / f"interactions{suffix}")
    result = train_table(path, label="clicked", output=tmp_path / "out", rounds=40)
    assert files(tmp_path / "out") == ["features.json", "model.txt"]
    schema = FeatureSchema.load(tmp_path / "out" / "features.json")
    assert schema == result.schema
    assert [feature.name for feature in schema.features] == ["kind", "category_affinity", "price", "is_new"]
    assert [feature.categories for feature in schema.features] == [KINDS, None, None, None]

    booster = lgb.Booster(model_file=str(tmp_path / "out" / "model.txt"))
    assert booster.feature_name() == [feature.name for feature in schema.features]
    assert booster.num_trees() == result.trees
    frame = read_table(path)
    x = np.full((len(frame), 4), np.nan)
    for position, feature in enumerate(schema.features):
        if feature.categories is None:
            x[:, position] = frame.numbers(feature.source)
        else:
            place = {word: index for index, word in enumerate(feature.categories)}
            x[:, position] = [place.get(word, np.nan) for word in frame.text(feature.source).values()]
    time = frame.numbers("timestamp")
    held = time >= np.unique(time)[240]  # 300 requests, a minute apart
    assert result.rows_holdout == held.sum() == 600
    score = booster.predict(x[held].astype(np.float32))
    assert result.auc == measure.auc(frame.numbers("clicked")[held], score)
    assert result.auc > 0.68 and result.log_loss < 0.66
    assert next(iter(result.importances)) in ("category_affinity", "kind")
    assert sum(result.importances.values()) == pytest.approx(1.0)
    for words in ("3,000 rows", "AUC         0.", "log loss", "kind (4)", "last by timestamp, from 2026-", "position"):
        assert words in result.report


def test_label_is_no_feature_and_the_report_names_what_else_is_none(tmp_path):
    result = train_table(table(tmp_path / "t.csv"), label="is_new", output=tmp_path / "o", rounds=5)
    assert "is_new" not in [feature.source for feature in result.schema.features]
    assert "note        not features: user_id, item_id, request_id, timestamp\n" in result.report


def test_trees_are_the_same_on_one_core_and_on_two():
    rng = np.random.default_rng(0)
    x = rng.random((5_000, 4)).astype(np.float32)
    y = (x[:, 0] + rng.normal(0, 0.5, 5_000) > 0.5).astype(float)
    boosters = [
        fit_ranker(x, y, None, ["a", "b", "c", "d"], [], "binary", rounds=10, params={"num_threads": threads})
        for threads in (1, 2)
    ]
    assert len({booster.model_to_string().split("parameters:")[0] for booster in boosters}) == 1


def test_same_arguments_give_the_same_model(tmp_path):
    path = table(tmp_path / "t.parquet")
    models = []
    for name in ("a", "b"):
        train_table(path, label="clicked", output=tmp_path / name, rounds=20, seed=3)
        models.append((tmp_path / name / "model.txt").read_bytes())
    assert models[0] == models[1]


def test_holdout_by_user_keeps_people_apart_and_is_the_fallback(tmp_path):
    path = table(tmp_path / "t.csv", without=["timestamp"])
    result = train_table(path, label="clicked", output=tmp_path / "out", rounds=20)
    found = re.search(r"by user_id: (\d+) of them", result.report)
    assert found and 35 <= int(found[1]) <= 45
    assert 450 < result.rows_holdout < 750
    timed = table(tmp_path / "timed.csv")
    same = train_table(timed, label="clicked", output=tmp_path / "out", rounds=20, holdout="user")
    assert same.rows_holdout == result.rows_holdout, "the same people, hashed"


def test_holdout_by_row_is_the_last_resort_and_says_so(tmp_path):
    path = table(tmp_path / "t.csv", without=["timestamp", "user_id"])
    result = train_table(path, label="clicked", output=tmp_path / "out", rounds=20)
    assert "held out by row" in result.report and result.rows_holdout == 600


def test_lambdarank_ranks_within_requests_in_any_order_of_rows(tmp_path):
    columns = rows()
    order = np.random.default_rng(1).permutation(3_000)
    shuffled = {name: [column[row] for row in order] for name, column in columns.items()}
    reports = []
    for name, changed in (("a", {}), ("b", shuffled)):
        path = table(tmp_path / f"{name}.parquet", **changed)
        result = train_table(
            path, label="clicked", output=tmp_path / name, objective="lambdarank", group="request_id", rounds=30
        )
        assert result.rows_holdout == 600 and result.log_loss is None
        assert result.ndcg > 0.70 and result.auc > 0.68
        assert "NDCG@20" in result.report
        reports.append((result.rows_holdout, result.auc > 0.6))
    assert reports[0] == reports[1]


def test_holdout_never_splits_a_group(tmp_path):
    """Groups of 7 over times that change every 10 rows: a cut by time alone would run through a group."""
    group = np.arange(3_000) // 7
    path = table(tmp_path / "t.parquet", session=group)
    result = train_table(
        path, label="clicked", output=tmp_path / "o", objective="lambdarank", group="session", rounds=5
    )
    assert result.rows_holdout in {3_000 - start for start in range(0, 3_000, 7)}
    by_user = train_table(
        path, label="clicked", output=tmp_path / "o", objective="lambdarank", group="session", holdout="user", rounds=5
    )
    assert by_user.rows_holdout % 7 in (0, 3_000 % 7)


def test_regression_and_numbers_read_as_categories(tmp_path):
    rating = np.round(5 * rows()["category_affinity"], 1)
    path = table(tmp_path / "t.csv", without=["clicked"], rating=rating, shelf=np.arange(3_000) % 5)
    result = train_table(
        path,
        label="rating",
        output=tmp_path / "o",
        objective="regression",
        categorical=["shelf"],
        drop=["price"],
        rounds=30,
    )
    assert result.rmse < 0.5 and result.log_loss is None
    sources = {feature.source: feature.categories for feature in result.schema.features}
    assert sources["shelf"] == ["0", "1", "2", "3", "4"] and "price" not in sources


def test_category_only_in_the_holdout_is_unknown_to_the_schema(tmp_path):
    kind = rows()["kind"][:-100] + ["durian"] * 100
    result = train_table(table(tmp_path / "t.csv", kind=kind), label="clicked", output=tmp_path / "o", rounds=5)
    assert result.schema.features[0].categories == KINDS


def test_names_lightgbm_refuses_are_mapped_and_collisions_refused(tmp_path):
    values = rows()["price"]
    path = table(tmp_path / "t.parquet", **{'price: "net", [a]': values})
    result = train_table(path, label="clicked", output=tmp_path / "o", rounds=5)
    mapped = {feature.source: feature.name for feature in result.schema.features}
    assert mapped['price: "net", [a]'] == "price___net____a_"
    path = table(tmp_path / "t.parquet", **{"a b": values, "a:b": values})
    with pytest.raises(SnapshotError, match='"a b" and "a:b" are both "a_b" to LightGBM'):
        train_table(path, label="clicked", output=tmp_path / "o")


def test_lists_empty_and_crowded_columns_are_no_features_and_the_report_says_so(tmp_path):
    more = {"vector": [[1.0, 2.0]] * 3_000, "void": [None] * 3_000, "title": [f"t{row}" for row in range(3_000)]}
    path = table(tmp_path / "t.parquet", **more)
    result = train_table(path, label="clicked", output=tmp_path / "o", rounds=5)
    assert len(result.schema.features) == 4
    for words in ("lists: vector", "empty: void", "too many different texts: title (3,000)"):
        assert words in result.report


def test_tiny_table_trains_without_a_stopping_split(tmp_path):
    few = {name: column[:40] for name, column in rows().items()}
    path = tmp_path / "t.csv"
    pc.write_csv(pa.table(few), path)
    result = train_table(path, label="clicked", output=tmp_path / "o")
    assert "too few rows to tell when to stop" in result.report


def slip(column, row, value):
    changed = [str(each) for each in column]
    changed[row] = value
    return changed


@pytest.mark.parametrize(
    ("changed", "arguments", "error", "message"),
    [
        ({}, {"label": "click"}, SnapshotError, r'no column "click" \(did you mean "clicked"\?\)'),
        ({}, {"drop": ["prize"]}, SnapshotError, r'did you mean "price"'),
        ({}, {"objective": "lambdarnk", "group": "x"}, ConfigError, 'did you mean "lambdarank"'),
        ({}, {"objective": "lambdarank"}, ConfigError, "lambdarank needs a group"),
        ({}, {"objective": "lambdarank", "group": "requests"}, SnapshotError, 'did you mean "request_id"'),
        ({}, {"holdout": "week"}, ConfigError, '"time" or "user" would be right'),
        ({}, {"rounds": 0}, ConfigError, "rounds is 0"),
        ({}, {"params": {"num_leaves": 1}}, ConfigError, "LightGBM refuses"),
        ({"clicked": [1] * 3_000}, {}, SnapshotError, "clicked is 1 in all 3,000 rows"),
        ({"clicked": [0] * 2_999 + [3]}, {}, SnapshotError, "line 3001: clicked is 3; 0 or 1"),
        ({"clicked": [0] * 2_990 + [1] * 10}, {}, SnapshotError, "clicked is 0 in all 2,400 rows that are not"),
        ({"clicked": [0, None] + [1] * 2_998}, {}, SnapshotError, "line 3: clicked is empty"),
        ({"clicked": slip([0] * 3_000, 4, "yes")}, {}, SnapshotError, "line 6: clicked is 'yes'"),
        ({"price": slip(range(3_000), 7, "12;50")}, {}, SnapshotError, "line 9: price is '12;50'"),
        ({"timestamp": [None, *range(2_999)]}, {}, SnapshotError, "line 2: timestamp is empty"),
        ({"timestamp": ["then"] * 3_000}, {}, SnapshotError, "timestamp is 'then'; unix seconds"),
        ({"timestamp": [5] * 3_000}, {"holdout": "time"}, SnapshotError, "the same in all rows"),
        ({"user_id": ["u"] * 3_000}, {"holdout": "user"}, SnapshotError, "the same in all rows"),
        ({}, {"drop": ["kind", "category_affinity", "price", "is_new"]}, SnapshotError, "no feature columns"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_message_and_nothing_written(tmp_path, changed, arguments, error, message):
    path = table(tmp_path / "t.csv", **changed)
    with pytest.raises(error, match=message):
        train_table(path, **({"label": "clicked", "output": tmp_path / "out", "rounds": 5} | arguments))
    assert files(tmp_path / "out") == []


def test_failed_write_keeps_the_old_model_and_leaves_no_partial(tmp_path, monkeypatch):
    path = table(tmp_path / "t.parquet")
    output = tmp_path / "out"
    train_table(path, label="clicked", output=output, rounds=5)
    before = {name: (output / name).read_bytes() for name in files(output)}

    def full(self, path):
        raise SnapshotError("disk full")

    monkeypatch.setattr(FeatureSchema, "save", full)
    with pytest.raises(PairecError, match="disk full"):
        train_table(path, label="clicked", output=output, rounds=9)
    assert {name: (output / name).read_bytes() for name in files(output)} == before
    with pytest.raises(ConfigError, match="is a file; a directory would be right"):
        train_table(path, label="clicked", output=path)


def test_ranker_of_a_matrix_stops_on_the_valid_rows():
    rng = np.random.default_rng(0)
    x = rng.random((2_000, 3)).astype(np.float32)
    y = (x[:, 0] + rng.normal(0, 0.5, 2_000) > 0.5).astype(float)
    seen = []
    booster = fit_ranker(
        x[:1500], y[:1500], None, ["a", "b", "c"], [], "binary", valid=(x[1500:], y[1500:], None),
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert 0 < booster.num_trees() <= len(seen) < 300 and seen[0] == (1, 300)
    ranker = fit_ranker(x, y, np.full(200, 10), ["a", "b", "c"], [], "lambdarank", rounds=7, params={"num_leaves": 4})
    assert ranker.num_trees() == 7
    with pytest.raises(ConfigError, match="group_sizes"):
        fit_ranker(x, y, None, ["a", "b", "c"], [], "lambdarank")


def test_auc_by_hand_and_against_every_pair():
    assert measure.auc(np.array([0, 1]), np.array([0.1, 0.9])) == 1.0
    assert measure.auc(np.array([0, 1]), np.array([0.5, 0.5])) == 0.5
    assert np.isnan(measure.auc(np.array([1, 1]), np.array([0.1, 0.9])))
    rng = np.random.default_rng(5)
    for distinct in (1, 2, 5, 1000):
        label, score = rng.integers(0, 2, 150), rng.integers(0, distinct, 150) / 7
        difference = score[label == 1][:, None] - score[label == 0][None, :]
        assert measure.auc(label, score) == pytest.approx((np.sign(difference) / 2 + 0.5).mean(), abs=1e-12)


def test_ndcg_and_losses_by_hand():
    label, score = np.array([0, 1, 1, 0, 0]), np.array([3.0, 2.0, 1.0, 1.0, 2.0])
    expected = (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert measure.ndcg(label, score, np.array([3, 2])) == pytest.approx(expected), "a group without clicks is left out"
    assert measure.ndcg(label, score, np.array([3, 2]), size=1) == 0.0
    assert np.isnan(measure.ndcg(np.zeros(5), score, np.array([3, 2])))
    assert measure.log_loss(np.array([1, 0]), np.array([0.5, 0.75])) == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert measure.rmse(np.array([1, 2]), np.array([1, 4])) == pytest.approx(np.sqrt(2))


def test_schema_survives_the_file_and_refuses_what_is_not_one(tmp_path):
    path = tmp_path / "features.json"
    schema = FeatureSchema([Feature("price", "price"), Feature("kind", "kind", ["a", "é"])], "clicked", "binary")
    schema.save(path)
    assert FeatureSchema.load(path) == schema and files(tmp_path) == ["features.json"]
    content = json.loads(path.read_text())
    assert list(content) == ["format", "label", "objective", "features"] and content["format"] == 1
    assert content["features"][0] == {"name": "price", "source": "price"}
    for bad, message in (
        ("{", "is not a feature schema"),
        ('{"features":[{"name":"a"}]}', r"missing required field `source` - at `\$.features\[0\]`"),
        ('{"features":[],"format":1}', "has no features"),
        ('{"features":[{"name":"a","source":"a"}],"format":2}', "format 2; this version reads format 1"),
        ('{"features":[{"name":"a","source":"a"},{"name":"a","source":"b"}]}', 'feature "a" stands twice'),
        ('{"features":[{"name":"a","source":"a","categories":["x","x"]}]}', '"x" stands twice'),
        ('{"features":[{"name":"a","source":"a","categorys":[]}]}', "categorys"),
    ):
        path.write_text(bad)
        with pytest.raises(SnapshotError, match=message):
            FeatureSchema.load(path)
    with pytest.raises(SnapshotError, match="no such file"):
        FeatureSchema.load(tmp_path / "absent.json")
