"""The PostgreSQL that tests start is a real one and keeps what was committed when its process is killed."""

from __future__ import annotations

import pytest


def test_rows_come_back_as_they_were_written(postgres):
    import psycopg

    with postgres.connect() as connection:
        connection.execute("create temporary table users (uid text primary key, vector float4[], seen bigint)")
        row = ("u1", [0.5, -1.25, float("inf")], 2**62)
        connection.execute("insert into users values (%s, %s, %s)", row)
        assert connection.execute("select * from users where uid = any(%s)", (["u1", "u2"],)).fetchall() == [row]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into users values ('u1')")


def test_what_was_committed_outlives_a_kill_and_the_port_stays(postgres):
    with postgres.connect() as connection:
        connection.execute("create table kept as select number from generate_series(1, 1000) as number")
    port = postgres.port
    postgres.kill()
    postgres.start()
    with postgres.connect() as connection:
        assert connection.execute("select count(*), sum(number) from kept").fetchone() == (1000, 500500)
        assert connection.execute("show port").fetchone() == (str(port),)
        connection.execute("drop table kept")
