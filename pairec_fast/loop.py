"""One event loop beside the threads that serve: what awaits the network runs there, whoever asked for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """Starts its thread when it is first used, so that who has only local data has no such thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `coroutine` on the loop. Not to be waited for from the loop itself.

        Raises:
            RuntimeError: closed.
        """
        with self._lock:
            if self._closed:
                coroutine.close()
                raise RuntimeError("the loop is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(self._loop,), name="pairec-loop", daemon=True).start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self, timeout: float = 5.0) -> None:
        """Cancel what still runs and end the thread, waiting at most `timeout` seconds. Idempotent."""
        with self._lock:
            self._closed, loop = True, self._loop
            self._loop = None
        if loop is not None:
            ended = asyncio.run_coroutine_threadsafe(_cancel_others(), loop)
            with contextlib.suppress(TimeoutError):
                ended.result(timeout)
            loop.call_soon_threadsafe(loop.stop)

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
