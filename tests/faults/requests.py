"""Send malformed requests to a real server, many of them, and see that it answers, lives and stays right.

    python -m tests.faults.requests --times 100000 [--seed 7]

Bodies are valid requests that were cut, spliced, bit-flipped or given values of other types, or garbage; heads lie
about length, encoding and everything else. No answer may be a 5xx, except 503 for overload; answers of PAI-Rec's routes
are JSON with a code; now and then a good request must get exactly the answer it got at first.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import random
import signal
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.servers import Server
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, RECALL, RECOMMEND, World, make_world

ROUTES = [FEED, RECOMMEND, RECALL, CALLBACK]
GOOD = FIRST | {"request_id": "good", "size": 20}
FULL = LOGGED | FIRST | {
    "category": "default", "debug": True, "features": {"hour": 3, "device": "ios", "history": ["i000012", "i000345"]},
    "complex_type_features": [{"name": "age", "type": "map<string,list<int>>", "values": {"a": [1]}}],
    "request_info": {"recom_id": "1"}, "item_id": "i000012",
}  # fmt: skip
NUMBERS = [0, -1, 1.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**308, 10**400, 1e308, -1e-320]
TEXTS = ["", " ", "\0", "é" * 300, "x" * 100_000, "nan", "-Infinity", "1e999", "None", "i000012", "\U0001f600", "%s"]
RAW = [b"1e400", b"NaN", b"-", b"01", b'"\\ud800"', b'"\xff"', b"[" * 2000, b"[" * 900 + b"]" * 900, b"9" * 10_000]
PATHS = ["/", "//", "/api", f"{FEED}/", f"{FEED}?{'q' * 900}", "/%00", "/%ff", "/metrics", "/ping", "/livez"]
HEADS = [b"X: " + b"y" * 60_000, b"bad header", b": ", b"Content-Length: 3", b"Expect: 100-continue"]


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(9 if depth < 4 else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return rng.choice(TEXTS)
    if kind == 4:
        return rng.choice((None, True, False))
    if kind < 7:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = (*FULL, "item_id", "score", "name", "type", "values", *TEXTS)
    return {rng.choice(keys): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def content(rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.choice((1, 10, 1000, 100_000)))
    request = {name: FULL[name] for name in FULL if rng.random() < 0.9}
    if kind < 4:
        for _ in range(rng.randrange(1, 4)):
            name = rng.choice(list(FULL))
            request[rng.choice((name, name.upper()))] = value(rng)
    body = bytearray(json.dumps(request, ensure_ascii=rng.random() < 0.5).encode())
    if kind == 4:
        return bytes(body[: rng.randrange(len(body))])
    if kind == 5:
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    if kind == 6:
        at = rng.randrange(len(body))
        body[at : at + rng.randrange(12)] = rng.choice((*RAW, body[: rng.randrange(len(body))]))
    if kind == 7:
        name = rng.choice(list(FULL)).encode()
        body = bytearray(b'{"uid":"u00042","%s":%s}' % (name, rng.choice(RAW)))
    return bytes(body)


def message(rng: random.Random) -> tuple[str, bytes, bool]:
    """Path, bytes on the wire, and whether an answer must come."""
    path, body = rng.choice(ROUTES), content(rng)
    kind = rng.randrange(14)
    head, length, sound = [b"Host: x", b"Connection: close"], len(body), True
    method = rng.choice((b"POST", b"POST", b"GET", b"PUT"))
    if kind == 0:
        head.append(b"Content-Encoding: " + rng.choice((b"gzip", b"zstd", b"lz4", b"br", b"", b"\xff")))
        body = rng.choice((body, gzip.compress(body), gzip.compress(body)[:-3], gzip.compress(bytes(8 << 20))))
        length = len(body)
    elif kind == 1:
        path = rng.choice(PATHS)
    elif kind == 2:
        body = body + b" " * (2 << 20)
        length = len(body)
    elif kind == 3:
        length, sound = rng.choice((length + 10, max(0, length - 3), 1 << 40)), False
    elif kind == 4:
        method, sound = rng.choice((b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"\0", b"post", b"A" * 999)), False
    elif kind == 5:
        head.append(rng.choice(HEADS))
        sound = False
    elif kind == 6:
        parts = [body[at : at + 7] for at in range(0, min(len(body), 700), 7)]
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        head.append(b"Transfer-Encoding: chunked")
        wire = b"%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, path.encode(), b"\r\n".join(head))
        cut = rng.random() < 0.3
        return path, wire + (chunked[:-6] + b"zz" if cut else chunked), not cut
    elif kind == 7:
        return path, rng.choice((body, b"\r\n" * 10, b"GET\r\n\r\n", b"\x16\x03\x01" + rng.randbytes(99))), False
    head.append(b"Content-Length: %d" % length)
    return path, b"%s %s HTTP/1.1\r\n%s\r\n\r\n%s" % (method, path.encode(), b"\r\n".join(head), body), sound


def exchange(port: int, wire: bytes, sound: bool) -> bytes:
    """Everything the server says until it closes; what is not sound is given little time and may get nothing."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10 if sound else 0.05) as connection:
        with contextlib.suppress(OSError):  # it has heard enough, and may have said so
            connection.sendall(wire)
        with contextlib.suppress(OSError):
            while part := connection.recv(1 << 16):
                answer += part
    return answer


def run(world: World, times: int, seed: int) -> Counter:
    rng = random.Random(seed)
    totals: Counter = Counter()
    with Server(world) as server:
        before, first = server.workers(), server.ask(FEED, GOOD)
        assert first[0] == 200 and json.loads(first[1])["size"] == 20
        for number in range(times):
            path, wire, sound = message(rng)
            answer = exchange(server.port, wire, sound)
            head, _, body = answer.partition(b"\r\n\r\n")
            status = int(head.split()[1]) if head.startswith(b"HTTP/") else 0
            totals[f"status {status}"] += 1
            wrong = (status >= 500 and status != 503) or (sound and status == 0)
            if path in ROUTES and status == 200 and sound:
                code = json.loads(body)["code"]
                totals[f"code {code}"] += 1
                wrong |= code not in (200, 299, 400)
            if wrong:
                totals["wrong"] += 1
                print(f"{number}: {wire[:2000]!r}\n-> {answer[:300]!r}", file=sys.stderr)
            if number % 20 == 0:
                totals["good"] += 1
                totals["wrong"] += server.ask(FEED, GOOD) != first
        totals["deaths"] += server.workers() != before
        code, seconds = server.end(signal.SIGTERM)
        totals["bad_end"] += code != 0 or seconds > 10
        said = server.stderr.read_text()
        totals["complaints"] += "Traceback" in said or "panic" in said
        if totals["complaints"]:
            print(said, file=sys.stderr)
    return totals


def failed(totals: Counter) -> bool:
    return any(totals[name] for name in ("wrong", "deaths", "bad_end", "complaints"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="requests-") as folder:
        engine_json = make_world(Path(folder) / "demo")
        place = Path(folder) / "service"
        place.mkdir()
        totals = run(World(engine_json, place), arguments.times, seed)
    print(json.dumps(dict(totals)))
    return int(failed(totals))


if __name__ == "__main__":
    sys.exit(main())
