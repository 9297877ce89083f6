"""A Kafka cluster to break: librdkafka's mock brokers in a process of their own, told what to do on stdin.

    python -m tests.faults.mockd LIBRARY [BROKERS]

Prints the bootstrap servers. A command a line, each answered by `ok` or `error CODE`:

    topic NAME PARTITIONS   down ID   up ID   rtt ID MILLISECONDS   leader TOPIC PARTITION ID
    produce-errors CODE...  (the next answers to Produce)            topic-error TOPIC CODE

ID 0 is every broker. The mock does not look at sequence numbers: it cannot show that repeats are removed, and it takes
a batch although it refused the one before.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

PRODUCE = 0  # API key of the request
ROOT = Path(__file__).resolve().parent.parent.parent


class Cluster:
    """The mock cluster in this process."""

    def __init__(self, library: str, brokers: int) -> None:
        self._api = api = ctypes.CDLL(library)
        pointers = ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new")
        for name in pointers:
            getattr(api, name).restype = ctypes.c_void_p
        api.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        client = ctypes.c_void_p(api.rd_kafka_new(0, ctypes.c_void_p(api.rd_kafka_conf_new()), None, 0))
        self._cluster = ctypes.c_void_p(api.rd_kafka_mock_cluster_new(client, brokers))
        self._brokers = range(1, brokers + 1)
        self._replicas = min(3, brokers)

    def servers(self) -> str:
        servers: bytes = self._api.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def _call(self, name: str, *values: int | bytes) -> int:
        arguments = [ctypes.c_int32(value) if isinstance(value, int) else value for value in values]
        return int(getattr(self._api, f"rd_kafka_mock_{name}")(self._cluster, *arguments))

    def _each(self, name: str, broker: str, *values: int) -> int:
        chosen = self._brokers if broker == "0" else [int(broker)]
        return max(abs(self._call(name, each, *values)) for each in chosen)

    def run(self, verb: str, *words: str) -> int:
        if verb == "topic":
            return self._call("topic_create", words[0].encode(), int(words[1]), self._replicas)
        if verb in ("down", "up"):
            return self._each(f"broker_set_{verb}", words[0])
        if verb == "rtt":
            return self._each("broker_set_rtt", words[0], int(words[1]))
        if verb == "leader":
            return self._call("partition_set_leader", words[0].encode(), int(words[1]), int(words[2]))
        if verb == "topic-error":
            self._call("topic_set_error", words[0].encode(), int(words[1]))
            return 0
        if verb == "produce-errors":
            codes = (ctypes.c_int * len(words))(*map(int, words))
            self._api.rd_kafka_mock_push_request_errors_array(
                self._cluster, ctypes.c_int16(PRODUCE), ctypes.c_size_t(len(words)), codes
            )
            return 0
        raise ValueError(f"no such command: {verb}")


class Mock:
    """The same as a child process, which can also be frozen: `Mock(library).tell("down", 0)`."""

    def __init__(self, library: str, brokers: int = 3) -> None:
        command = [sys.executable, "-m", "tests.faults.mockd", library, str(brokers)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        self.servers = self._line()
        assert self.servers, "the mock cluster did not start"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, *words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        answer = self._line()
        assert answer == "ok", (words, answer)

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def main() -> int:
    cluster = Cluster(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    print(cluster.servers(), flush=True)
    for line in sys.stdin:
        code = cluster.run(*line.split())
        print("ok" if code == 0 else f"error {code}", flush=True)
    os._exit(0)  # the mock's own end waits for its clients


if __name__ == "__main__":
    sys.exit(main())
