"""The core that every front shares: whom to let in, a body in, an answer out, what is told of it. It knows no protocol.

A front makes a `Visit` of a request's head, asks `Shell.answered` for the answer, sends what `packed` makes of it, and
calls `Shell.left`. The walk runs inline, GIL released: on a thread of its own fewer are answered, and later
(`python -m bench.placement`). `Admission` decides what happens under overload.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections import deque
from collections.abc import Awaitable

from pairec_fast.admission import FULL, REFUSED, Admission, Class
from pairec_fast.compress import COMPRESS_FROM, chosen, decoded, encoded
from pairec_fast.engine import Engine
from pairec_fast.errors import NotReadyError, OverloadedError, RequestError
from pairec_fast.logs import awaited, finish
from pairec_fast.messages import error_answer
from pairec_fast.routes import CALLBACKS, JSON, NOT_FOUND, OVERLOADED, PROBES, ROUTES, TEXT, After, Answer, Begun
from pairec_fast.routes import POPULAR as POPULAR_ROUTES

DRAIN = signal.SIGURG  # to a worker: say that you are not ready. One that does not know it yet ignores it
BODY_SECONDS = 5.0  # for a body to come whole
# A body that takes longer holds no place among those that are worked on, or eight slow clients would be all there are.
PROMPT_SECONDS = 0.05
# Callbacks are refused at this pace, each held back until its turn, or for so long: its connection is the only brake
# there is on who sends it, and to refuse costs as much as to read. Who asks for a recommendation is told at once.
REFUSED_GAP_SECONDS, BRAKE_SECONDS = 0.005, 1.0
READERS_MAX = 256  # bodies that are waited for at once; of more, the oldest is given up
PATH_MAX = 8192
TIMEOUT_MS_MAX = 10**7

ALIVE: dict[str, Answer] = {"/ping": (200, TEXT, b"success", None), "/livez": (200, TEXT, b"alive", None)}
NOT_READY: Answer = (503, TEXT, b"not ready", None)
TOO_LONG: Answer = (414, TEXT, b"path too long", None)
TOO_SLOW: Answer = (408, TEXT, b"the body took too long", None)

log = logging.getLogger("pairec_fast")


class Visit:
    """A request from its head to its answer; fronts say what it is and how its body is read. What is bytes to ASGI is
    text here, and what most requests have not is here, too.

    begin: by `time.perf_counter`. length: of the body, -1 unless it is said. timeout: the header `X-Timeout-Ms` as it
    came. size: of the head, as PAI-Rec counts it; 0 where nobody asks. body: what was read of it, decompressed.
    seconds: that the client waits; 0 is for ever.
    """

    begin: float
    path: str
    method: str
    host: str
    length: int
    size, timeout, encoding, body = 0, "", "", b""
    verdict, counted, expired, seconds = FULL, False, False, 0.0
    kind: Class | None = None
    broken: type[Exception] = RequestError  # what `read` raises when the body cannot be read

    def read(self, most: int) -> Awaitable[bytes]:
        """The body, of which no more than `most` bytes need be read, and no more than one byte beyond them given."""
        raise NotImplementedError

    def accept(self) -> str:
        """The header `Accept-Encoding`."""
        raise NotImplementedError

    def line(self) -> tuple[str, str]:
        """The URI, and the address of who asks."""
        raise NotImplementedError


class Shell:
    """Serve an engine, whatever the front."""

    def __init__(self, engine: Engine | None) -> None:
        self.draining = False
        self._released_at = 0.0  # when the last of the refused callbacks that are held back is answered
        self._patient = deque[asyncio.Future[None]]()  # callbacks, until no recommendation is to be worked on
        self._reading: dict[asyncio.Task[object], Visit] = {}
        self._swept: asyncio.AbstractEventLoop | None = None  # the loop that looks after slow bodies now
        self.engine: Engine | None = None
        if engine is not None:
            self.serve(engine)

    def serve(self, engine: Engine) -> None:
        """From now on."""
        one = self.admission = Admission(engine.limits)
        self._kinds = {path: one.callback if path in CALLBACKS else one.recommend for path in ROUTES.keys() - PROBES}
        self.engine = engine

    def drain(self) -> None:
        """Say that no more requests should come; those that come are answered, and their connections closed."""
        self.draining = True

    def handle(self, path: str, body: bytes) -> Answer:
        """(status, content type, body, what to do when the answer has left) for a request to `path`.

        What is to be waited for, is waited for in this thread.
        """
        begun = self._begin(path, body)
        return begun if isinstance(begun, tuple) else finish(begun)

    async def answered(self, visit: Visit) -> Answer:
        """The answer. The body is read of whoever is let in, and of nobody else."""
        reply = self.met(visit)
        if reply is not None:
            if reply is OVERLOADED and visit.path in CALLBACKS:
                await asyncio.sleep(self.brake())
            return reply
        kind = visit.kind
        assert kind is not None
        try:
            if visit.length:
                visit.body = await self._read(visit)
                # Whose body was long in coming is let in anew; who has waited too long is not worth the work.
                if not visit.counted and not self._let_in(visit, kind):
                    return OVERLOADED
            if kind is self.admission.callback and self.admission.recommend.in_flight:
                turn = asyncio.get_running_loop().create_future()
                self._patient.append(turn)
                await turn
            begun = self.work(visit)
        except RequestError as error:
            return 200, JSON, error_answer(error), None
        except TimeoutError:
            return TOO_SLOW
        finally:
            self.done(visit)
            if self._patient:
                self._next(kind)
        # Whoever waits for the log does no work, and must not keep recommendations out.
        return begun if isinstance(begun, tuple) else await awaited(begun)

    def met(self, visit: Visit) -> Answer | None:
        """The answer to who is not let in, or is served without work. None: there is a place for him until `done`."""
        if self.engine is None or (kind := self._kinds.get(visit.path)) is None:
            return self.handle(visit.path, b"")
        visit.kind = kind
        if visit.timeout:
            try:
                visit.seconds = _seconds(visit.timeout)
            except RequestError as error:
                return 200, JSON, error_answer(error), None
        return None if self._let_in(visit, kind) else OVERLOADED

    def work(self, visit: Visit) -> Begun:
        """What is done for who was let in, now that his body is there."""
        kind, begin, full = visit.kind, time.perf_counter(), visit.verdict == FULL
        assert kind is not None
        if visit.seconds and begin - visit.begin + kind.seconds > visit.seconds:
            return self._refused(kind, "deadline")
        begun = self._begin(visit.path, visit.body, popular=not full)
        if full:
            kind.took(time.perf_counter() - begin)
        return begun

    def done(self, visit: Visit) -> None:
        """His place is free."""
        if visit.counted:
            assert visit.kind is not None
            visit.counted = False
            visit.kind.in_flight -= 1
            visit.kind.full -= visit.verdict == FULL

    def left(self, visit: Visit, reply: Answer, sent: int) -> None:
        """The answer has left, `sent` bytes of its body, or nobody was there any more: do what it did not wait for."""
        path, after, engine = visit.path, reply[3], self.engine
        if after is not None:
            _finish(path, after)
        if engine is None:
            return
        seconds = time.perf_counter() - visit.begin
        url = path if visit.kind is not None or path in PROBES else "other"
        size = visit.size + max(visit.length, 0)
        engine.requests.answered(reply[0], visit.method, visit.host, url, seconds, size, sent)
        if engine.request_log is not None and path.startswith("/api/"):
            begin = time.time() - seconds
            engine.request_log.answered(*visit.line(), visit.body, reply[2], begin, seconds)

    def _begin(self, path: str, body: bytes, popular: bool = False) -> Begun:
        """The answer, or what is to be waited for: live stores, or the log of an explicit callback."""
        route = (POPULAR_ROUTES if popular else ROUTES).get(path)
        if route is None:
            return ALIVE.get(path) or (TOO_LONG if len(path) > PATH_MAX else NOT_FOUND)
        if self.engine is None or (self.draining and path == "/readyz"):
            return NOT_READY
        try:
            return route(self.engine, body)
        except RequestError as error:
            return 200, JSON, error_answer(error), None
        except OverloadedError:
            return OVERLOADED
        except NotReadyError:
            return NOT_READY
        except Exception:
            log.exception("%s failed", path)
            return 500, TEXT, b"server error", None

    def _let_in(self, visit: Visit, kind: Class) -> bool:
        """Count the request in, and say how it is answered; False if it is not."""
        engine = self.engine
        assert engine is not None
        popular = visit.path in POPULAR_ROUTES and engine.has_popular
        visit.verdict = verdict = self.admission.verdict(kind, popular, visit.begin)
        if verdict == REFUSED:
            self._refused(kind, "limit")
            return False
        if visit.seconds:
            waited = time.perf_counter() - visit.begin
            if waited + self.admission.expected(kind) > visit.seconds:
                self._refused(kind, "deadline")
                return False
        kind.in_flight += 1
        kind.full += verdict == FULL
        visit.counted = True
        return True

    def _next(self, kind: Class) -> None:
        """One of `kind` is done: a callback behind a recommendation, or as long as there is none to be worked on."""
        one = self.admission
        while self._patient and (kind is one.recommend or not one.recommend.in_flight):
            turn = self._patient.popleft()
            if not turn.done():  # its request may have been given up
                turn.set_result(None)
                break

    def brake(self) -> float:
        """For how many seconds to hold back the answer to a callback that is refused."""
        now = time.perf_counter()
        self._released_at = at = min(max(now, self._released_at + REFUSED_GAP_SECONDS), now + BRAKE_SECONDS)
        return at - now

    def _refused(self, kind: Class, reason: str) -> Answer:
        assert self.engine is not None
        self.engine.metrics.count("shed_total", kind=kind.name, reason=reason)
        return OVERLOADED

    def most(self) -> int:
        """Bytes that a body may have."""
        return self.engine.limits.body_bytes_max if self.engine is not None else 0

    def whole(self, visit: Visit, body: bytes) -> bytes:
        """The body that has come, decompressed.

        Raises:
            RequestError: too large, compressed or not, or it cannot be read.
        """
        most = self.most()
        if len(body) > most:
            raise too_large(most)
        return decoded(body, visit.encoding, most) if visit.encoding and visit.encoding != "identity" else body

    async def _read(self, visit: Visit) -> bytes:
        """As `whole`, of a body that is still to come.

        Raises:
            TimeoutError: it did not come in time.
        """
        most = self.most()
        if visit.length > most:
            raise too_large(most)
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = visit
        if self._swept is None or self._swept.is_closed():
            self._swept = task.get_loop()
            self._swept.call_later(PROMPT_SECONDS, self._sweep)
        try:
            body = await visit.read(most)
        except asyncio.CancelledError:
            if not visit.expired:
                raise
            task.uncancel()
            raise TimeoutError from None
        except visit.broken:
            raise RequestError("read parammeter error") from None  # PAI-Rec's spelling
        finally:
            del self._reading[task]
        return self.whole(visit, body)

    def _sweep(self) -> None:
        """Look after bodies that are long in coming. One timer for all: one each would cost more than they do."""
        now, reading = time.perf_counter(), self._reading
        given_up = len(reading) - READERS_MAX
        for number, (task, visit) in enumerate(reading.items()):
            waited = now - visit.begin
            if waited < PROMPT_SECONDS:
                break  # they are in order of their begin
            if visit.counted:
                assert visit.kind is not None
                self.done(visit)
                self._next(visit.kind)
            if (waited > BODY_SECONDS or number < given_up) and not visit.expired:
                visit.expired = True
                task.cancel()
        if reading and self._swept is not None:
            self._swept.call_later(PROMPT_SECONDS, self._sweep)
        else:
            self._swept = None


def too_large(most: int) -> RequestError:
    return RequestError(f"request body larger than {most} bytes")


def _seconds(timeout: str) -> float:
    """Of a header `X-Timeout-Ms`. Raises RequestError."""
    if not (timeout.isascii() and timeout.isdigit() and 0 < len(timeout) < 9 and 0 < int(timeout) <= TIMEOUT_MS_MAX):
        raise RequestError(f"X-Timeout-Ms must be whole milliseconds from 1 to {TIMEOUT_MS_MAX}, got {timeout[:40]!r}")
    return int(timeout) / 1000


def _finish(path: str, after: After) -> None:
    """What the answer did not wait for. It has left, so nobody is there to be told of an error."""
    try:
        after()
    except Exception:
        log.exception("%s failed after its answer", path)


class Headers:
    """Headers of answers of a kind, made once: `text` as RSGI takes them, `raw` as ASGI does."""

    __slots__ = ("closing", "raw", "text")

    def __init__(self, text: list[tuple[str, str]]) -> None:
        self.text = text
        self.raw = [(name.encode(), value.encode()) for name, value in text]
        self.closing = self if text[-1:] == [CLOSE] else Headers([*text, CLOSE])


CLOSE = ("connection", "close")
_headers: dict[tuple[bytes, str | None, int], Headers] = {}  # by content type, encoding, and seconds to wait


def packed(reply: Answer, visit: Visit) -> tuple[bytes, Headers]:
    """The body of an answer as it is sent, and its headers but for the length."""
    status, kind, body, _ = reply
    encoding: str | None = None
    if len(body) >= COMPRESS_FROM:
        encoding = chosen(visit.accept())
        if encoding:
            body = encoded(body, encoding)
    # Those who were refused together should not come back together.
    wait = random.randrange(1, 4) if status == 503 else 0
    headers = _headers.get((kind, encoding, wait))
    if headers is None:
        text = [("content-type", kind.decode())]
        if encoding is not None:
            text.append(("vary", "accept-encoding"))
        if encoding:
            text.append(("content-encoding", encoding))
        if wait:
            text.append(("retry-after", str(wait)))
        headers = _headers[kind, encoding, wait] = Headers(text)
    return body, headers.closing if status == 408 else headers
