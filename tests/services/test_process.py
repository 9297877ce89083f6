"""Skips name what is missing, and where services are required nothing is skipped."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.services.kafka import Kafka
from tests.services.process import Missing, Service, lasting_port, offer, program


class Speaker(Service):
    """Prints and ends, or stays until it is killed."""

    name = "the speaker"
    seconds_to_start = 0.5

    def __init__(self, folder: Path, code: str) -> None:
        super().__init__(folder)
        self.code = code

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]

    def is_ready(self) -> bool:
        return False


def test_a_missing_part_skips_with_its_name_and_fails_where_services_are_required(monkeypatch):
    def open_service() -> None:
        program("no-such-program")

    monkeypatch.delenv("PAIREC_SERVICES_REQUIRED", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        offer(open_service)
    monkeypatch.setenv("PAIREC_SERVICES_REQUIRED", "1")
    with pytest.raises(Missing, match="no-such-program is not installed"):
        offer(open_service)


def test_jars_that_were_never_fetched_are_missing_and_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PAIREC_SERVICES", str(tmp_path / "nothing"))
    pytest.importorskip("confluent_kafka")
    with pytest.raises(Missing):
        Kafka(tmp_path)


@pytest.mark.parametrize(
    ("code", "said"), [("raise SystemExit('no room')", "exit code 1.*no room"), ("input", "exit code 0"),
                       ("import time; time.sleep(60)", "exit code None")],
)  # fmt: skip
def test_a_service_that_does_not_come_up_is_an_error_with_its_own_words_and_leaves_nothing(tmp_path, code, said):
    service = Speaker(tmp_path, code)
    with pytest.raises(RuntimeError, match=f"(?s)the speaker did not start.*{said}"):
        service.start()
    assert service.process is None


def test_a_port_given_out_is_none_that_a_client_could_be_given():
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {lasting_port() for _ in range(50)}
    assert max(ports) < max(first, 10_100) and len(ports) > 40
    with socket.socket() as one:
        one.bind(("127.0.0.1", ports.pop()))
