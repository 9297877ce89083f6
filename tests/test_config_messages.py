"""Ten broken configurations, and word for word what is said of each: at three in the morning that is all there is."""

from __future__ import annotations

import pytest

SOUND = """{
  "ListenConf": {"HttpAddr": "127.0.0.1", "HttpPort": 8000},
  "SnapshotConf": {"Directory": "${SHOP}/snapshots"},
  "SceneConfs": {
    "home_feed": {
      "default": {"RecallNames": ["hot", "similar"], "AutoInvokeCallBackRate": 10}
    }
  },
  "RecallConfs": [
    {"Name": "hot", "RecallType": "UserGlobalHotRecall", "RecallCount": 200,
     "DaoConf": {"AdapterType": "local", "TableName": "hot"}},
    {"Name": "similar", "RecallType": "UserCollaborativeFilterRecall", "RecallCount": 200,
     "UserCollaborativeDaoConf": {
       "AdapterType": "local", "User2ItemTable": "history", "Item2ItemTable": "i2i"}}
  ],
  "FilterConfs": [
    {"Name": "in_stock", "FilterType": "ItemStateFilter",
     "ItemStateDaoConf": {"AdapterType": "local", "TableName": "items"},
     "FilterParams": [{"Name": "in_stock", "Operator": "equal", "Type": "int", "Value": 1}]}
  ],
  "FilterNames": {"default": ["UniqueFilter", "in_stock"]},
  "AlgoConfs": [{"Name": "ranker", "Type": "LIGHTGBM", "LightGBMConf": {"Model": "ranker"}}],
  "RankConf": {"home_feed": {"RankAlgoList": ["ranker"], "RankScore": "${ranker}"}},
  "SortConfs": [
    {"Name": "spread", "SortType": "DiversityRuleSort",
     "DiversityRules": [{"Dimensions": ["category"], "WindowSize": 5, "FrequencySize": 3}]}
  ],
  "SortNames": {"default": ["ItemRankScore", "spread"]}
}
"""

BROKEN = {
    "a comma too many": (
        ('["ItemRankScore", "spread"]}', '["ItemRankScore", "spread"]},'),
        ["engine.json:28:56: a comma before the closing bracket is not JSON"],
    ),
    "a wrong type": (
        ('"HttpPort": 8000', '"HttpPort": "8000"'),
        ['engine.json:2:55: ListenConf.HttpPort: expected an integer, got text "8000"'],
    ),
    "a misspelt key": (
        ('"RecallCount": 200,\n     "DaoConf"', '"RecalCount": 200,\n     "DaoConf"'),
        ['engine.json:10:58: RecallConfs[0].RecalCount: warning: unknown key, ignored (did you mean "RecallCount"?)'],
    ),
    "a name that nothing defines": (
        ('["hot", "similar"]', '["hott", "similar"]'),
        [
            'engine.json:6:35: SceneConfs.home_feed.default.RecallNames[0]: unknown recall "hott" '
            '(did you mean "hot"?)',
            "engine.json:10:14: RecallConfs[0].Name: warning: defined but no scene uses it",
        ],
    ),
    "a type that nobody has": (
        ('"DiversityRuleSort"', '"DiversityRulesSort"'),
        [
            'engine.json:25:36: SortConfs[0].SortType: unknown SortType "DiversityRulesSort" '
            '(did you mean "DiversityRuleSort"?)'
        ],
    ),
    "a table that the snapshot lacks": (
        ('"TableName": "hot"', '"TableName": "hots"'),
        [
            'engine.json:11:55: RecallConfs.hot.DaoConf.TableName: the snapshot has no "hots" (did you mean "hot"?); '
            'it has "hot", "hot_by_group"'
        ],
    ),
    "a variable that is not set": (
        ("${SHOP}", "${SHOPP}"),
        ["engine.json:3:33: SnapshotConf.Directory: the environment variable SHOPP is not set"],
    ),
    "a formula that is none": (
        ('"RankScore": "${ranker}"', '"RankScore": "${ranker} * (2"'),
        [
            "engine.json:23:71: RankConf.home_feed.RankScore: this parenthesis is not closed (character 13)",
            "  ${ranker} * (2",
            "              ^",
        ],
    ),
    "a rate beyond a hundred": (
        ('"AutoInvokeCallBackRate": 10', '"AutoInvokeCallBackRate": 101'),
        ["engine.json:6:80: SceneConfs.home_feed.default.AutoInvokeCallBackRate: expected an integer <= 100, got 101"],
    ),
    "all at once": (
        None,
        [
            'engine.json:2:55: ListenConf.HttpPort: expected an integer, got text "8000"',
            'engine.json:11:55: RecallConfs.hot.DaoConf.TableName: the snapshot has no "hots" (did you mean "hot"?); '
            'it has "hot", "hot_by_group"',
            'engine.json:14:79: RecallConfs.similar.UserCollaborativeDaoConf.Item2ItemTable: the snapshot has no "i2j" '
            '(did you mean "i2i"?); it has "i2i"',
            'engine.json:22:82: AlgoConfs.ranker.LightGBMConf.Model: the snapshot has no "rankr" '
            '(did you mean "ranker"?); it has "ranker"',
        ],
    ),
}


@pytest.fixture
def checked(run, shop, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP", str(shop))
    monkeypatch.chdir(tmp_path)

    def check(text: str) -> tuple[int, list[str]]:
        (tmp_path / "engine.json").write_text(text)
        code, _, err = run("check", "engine.json")
        return code, err.splitlines()

    return check


def test_it_is_sound_before_it_is_broken(checked):
    assert checked(SOUND) == (0, [])


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_configuration_is_told_word_for_word(checked, name):
    change, expected = BROKEN[name]
    text = SOUND
    changes = [change] if change else [
        ('"HttpPort": 8000', '"HttpPort": "8000"'), ('"TableName": "hot"', '"TableName": "hots"'), ('"i2i"', '"i2j"'),
        ('"Model": "ranker"', '"Model": "rankr"'),
    ]  # fmt: skip
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    code, told = checked(text)
    assert code == int(name != "a misspelt key")
    assert told == expected
