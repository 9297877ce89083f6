"""The Redis that tests start is a real one, and a kill takes from it what it did not keep."""

from __future__ import annotations

import pytest

from tests.services.process import offer
from tests.services.redis import Redis


def test_a_client_reads_what_it_wrote_and_many_keys_in_one_round(redis_server):
    client = redis_server.client
    client.mset({f"user:{number}": bytes([number]) * 100 for number in range(50)})
    found = client.mget([f"user:{number}" for number in range(51)])
    assert found == [bytes([number]) * 100 for number in range(50)] + [None]
    assert client.info("server")["tcp_port"] == redis_server.port


def test_a_kill_empties_it_and_it_is_back_on_its_port(redis_server):
    import redis

    redis_server.client.set("here", "now")
    redis_server.kill()
    with pytest.raises(redis.exceptions.ConnectionError):
        redis_server.client.get("here")
    redis_server.start()
    assert redis_server.client.get("here") is None


def test_a_frozen_server_keeps_its_connection_and_answers_after_the_thaw(redis_server):
    import redis

    with redis.Redis.from_url(redis_server.url, socket_timeout=0.1, retry=None) as client:
        redis_server.freeze()
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        redis_server.thaw()
        assert redis_server.client.ping()


def test_an_append_only_file_outlives_a_kill(tmp_path):
    with offer(lambda: Redis(tmp_path, appendonly="yes", appendfsync="always")) as server:
        server.start()
        server.client.set("here", "still")
        server.kill()
        server.start()
        assert server.client.get("here") == b"still"
