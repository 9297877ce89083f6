"""How long anything may be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What `work` returns, if it does so within `seconds`.

    What is late is cancelled but not waited for: a client may take seconds to tell a server that its answer is no
    longer wanted (psycopg does), and that is not the request's time. The same holds when the caller is cancelled.

    Raises:
        TimeoutError: late.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_heard)
    try:
        await asyncio.wait((task,), timeout=seconds)
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()


def _heard(task: asyncio.Future[Any]) -> None:
    """Take the error of a task that nobody awaits any more, which asyncio would print."""
    if not task.cancelled():
        task.exception()
