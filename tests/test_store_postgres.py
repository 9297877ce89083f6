"""PostgreSQL is asked within its time limits; names are quoted, values are parameters."""

from __future__ import annotations

import time

import pytest

from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.metrics import Metrics
from pairec_fast.store import HologresConf, Stores, identifier
from pairec_fast.store.gate import FAILURES_MAX
from tests.services.process import lasting_port
from tests.test_store import Confs

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("psycopg_pool")
from psycopg import sql  # noqa: E402


@pytest.fixture
def stores(postgres):
    with postgres.connect() as connection:
        connection.execute("drop table if exists hot, numbers")
        connection.execute("create table hot (trigger_id text primary key, item_ids text, weight float8)")
        connection.execute("insert into hot values ('-1', 'i1,i2', 0.5), ('Male_20-30', 'i3', null)")
        connection.execute("create table numbers (id bigint primary key, payload text)")
        connection.execute("insert into numbers select n, 'row ' || n from generate_series(1, 1000) as n")
    with Stores(Confs(hologres={"pg": HologresConf(postgres.url)})) as stores:
        yield stores
    postgres.ensure()
    with postgres.connect() as connection:
        connection.execute("drop table if exists hot, numbers")


def ask(stores, coroutine):
    return stores.run(coroutine).result(30)


def test_rows_come_by_parameters_and_with_their_names(stores):
    one = stores.postgres("pg")
    statement = "select item_ids, weight from hot where trigger_id = %s"
    assert ask(stores, one.rows(statement, ["-1"], 2)) == [("i1,i2", 0.5)]
    assert ask(stores, one.rows(statement, ["' or true --"], 2)) == []
    assert ask(stores, one.table("select * from hot where trigger_id = %s", ["Male_20-30"], 2)) == (
        ["trigger_id", "item_ids", "weight"],
        [("Male_20-30", "i3", None)],
    )


def test_texts_are_compared_with_columns_of_numbers_as_the_server_does(stores):
    """A user id is text in a request; the table may hold numbers."""
    one = stores.postgres("pg")
    assert ask(stores, one.rows("select payload from numbers where id = %s", ["7"], 2)) == [("row 7",)]
    with pytest.raises(StoreError, match="invalid input syntax"):
        ask(stores, one.rows("select payload from numbers where id = %s", ["seven"], 2))
    many = sql.SQL("select id, payload from numbers where id in ({})").format(
        sql.SQL(", ").join([sql.Placeholder()] * 3)
    )
    assert ask(stores, one.rows(many, ["7", "9", "-1"], 2)) == [(7, "row 7"), (9, "row 9")]


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ("items", '"items"'), ("public.Items", '"public"."items"'), ('public."Items"', '"public"."Items"'),
        ('"a""b"', '"a""b"'), (" items ", '"items"'), ("select", '"select"'),
        ('"x; drop table hot"', '"x; drop table hot"'),
        ("表", '"表"'), ("a$1", '"a$1"'),
    ],
)  # fmt: skip
def test_names_are_read_as_the_server_reads_them_and_quoted(given, quoted):
    assert identifier(given, "here").as_string(None) == quoted


@pytest.mark.parametrize(
    "given",
    ["", " ", "a b", "items; drop table hot", "a.", ".a", "a..b", "1a", '"open', 'a"b"', "a-b", "f(x)", '""', "a\0b"],
)
def test_what_is_no_name_never_gets_into_a_statement(given):
    with pytest.raises(ConfigError, match=r"here\.Table: expected a name as in SQL"):
        identifier(given, "here.Table")


def test_a_slow_statement_is_late_in_time_and_ends_on_the_server(stores, postgres):
    one = stores.postgres("pg")
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"HologresConfs\.pg: no answer within 100 ms"):
        ask(stores, one.rows("select pg_sleep(20)", timeout=0.1))
    assert time.monotonic() - begin < 0.3
    assert ask(stores, one.rows("select 1", timeout=2)) == [(1,)]
    with postgres.connect() as connection:
        for _ in range(100):
            query = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
            if connection.execute(query).fetchone() == (0,):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("it still runs on the server")


def test_late_answers_are_never_given_to_the_next_question(stores):
    one = stores.postgres("pg")
    for number in range(1, 30):
        try:
            found = ask(stores, one.rows("select %s::int, pg_sleep(0.02)", [number], 0.002 * (number % 20)))
            assert found[0][0] == number
        except StoreError:
            pass
    time.sleep(0.5)
    assert [ask(stores, one.rows("select %s::int", [n], 2)) for n in range(40)] == [[(n,)] for n in range(40)]


def test_a_statement_the_server_refuses_says_why_and_rests_nobody(stores):
    one = stores.postgres("pg")
    for _ in range(3 * FAILURES_MAX):
        with pytest.raises(StoreError, match='relation "nowhere" does not exist'):
            ask(stores, one.rows("select * from nowhere", timeout=2))
    with pytest.raises(StoreError, match="NUL"):
        ask(stores, one.rows("select %s", ["a\0b"], 2))
    with pytest.raises(StoreError):
        ask(stores, one.rows("select %s", ["\ud800"], 2))
    with pytest.raises(ConfigError, match=r'RecallConfs\.u: .*column "nothing" does not exist'):
        ask(stores, one.check("select nothing from hot", (), "RecallConfs.u"))
    assert ask(stores, one.rows("select 1", timeout=2)) == [(1,)]


def test_after_a_restart_the_first_question_is_answered(stores, postgres):
    """Every idle connection is broken then, not only the one that notices."""
    one = stores.postgres("pg")

    async def many():
        import asyncio

        return await asyncio.gather(*(one.rows("select 1, pg_sleep(0.05)", timeout=5) for _ in range(8)))

    ask(stores, many())
    postgres.kill()
    postgres.start()
    assert ask(stores, one.rows("select 2", timeout=5)) == [(2,)]
    assert len(ask(stores, many())) == 8


def test_a_dead_server_costs_a_few_deadlines_and_then_nothing(postgres, stores):
    one = stores.postgres("pg")
    postgres.freeze()
    waited = []
    for _ in range(30):
        begin = time.monotonic()
        with pytest.raises(StoreError):
            ask(stores, one.rows("select 1", timeout=0.1))
        waited.append(time.monotonic() - begin)
    assert sorted(waited)[15] < 0.02 and max(waited) < 0.4
    postgres.thaw()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            assert ask(stores, one.rows("select 1", timeout=0.5)) == [(1,)]
            break
        except StoreError:
            time.sleep(0.05)
    else:
        raise AssertionError("it did not come back")


def test_a_server_that_does_not_answer_at_start_is_an_error_of_the_configuration():
    dsn = f"postgres://user:secret@127.0.0.1:{lasting_port()}/db?sslmode=disable"
    with (
        Stores(Confs(hologres={"pg": HologresConf(dsn)})) as stores,
        pytest.raises(ConfigError, match=r"HologresConfs\.pg: it must answer when the engine starts") as raised,
    ):
        stores.postgres("pg")
    assert "secret" not in str(raised.value)


def test_settings_that_other_drivers_take_from_a_url_are_settings_here(postgres):
    url = f"{postgres.url}?sslmode=disable&binary_parameters=yes&statement_timeout=4567&application_name=shop"
    with Stores(Confs(hologres={"pg": HologresConf(url + "&search_path=a%2C%20b")})) as stores:
        show = "select current_setting(%s), current_setting('application_name'), current_setting('search_path')"
        assert ask(stores, stores.postgres("pg").rows(show, ["statement_timeout"], 2)) == [("4567ms", "shop", "a, b")]


@pytest.mark.parametrize("dsn", ["nonsense secret", "host=x =secret", "postgres://u:sec ret@[::1/db"])
def test_a_connection_text_that_cannot_be_read_is_not_repeated(dsn):
    with (
        Stores(Confs(hologres={"pg": HologresConf(dsn)})) as stores,
        pytest.raises(ConfigError, match=r"HologresConfs\.pg\.DSN: expected a connection text") as raised,
    ):
        stores.postgres("pg")
    assert "sec" not in str(raised.value)


def test_changes_are_made_once_and_counted(stores, postgres):
    one = stores.postgres("pg")
    assert ask(stores, one.execute("delete from numbers where id <= %s", [10], 2)) == 10
    with postgres.connect() as connection:
        assert connection.execute("select count(*) from numbers").fetchone() == (990,)


def test_errors_are_counted_by_store_and_kind(postgres):
    metrics = Metrics()
    with Stores(Confs(hologres={"pg": HologresConf(postgres.url)}), metrics) as stores:
        with pytest.raises(StoreError):
            ask(stores, stores.postgres("pg").rows("select nothing", timeout=2))
        with pytest.raises(StoreError):
            ask(stores, stores.postgres("pg").rows("select pg_sleep(1)", timeout=0.02))
    assert 'store_errors_total{store="HologresConfs.pg",kind="refused"} 1' in metrics.text()
    assert 'store_errors_total{store="HologresConfs.pg",kind="late"} 1' in metrics.text()
