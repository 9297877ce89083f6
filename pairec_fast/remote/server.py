"""One model server: where it is, how long it may take, and how its answers are read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pairec_fast.remote.answers import FUNCTIONS, AnswerError, Scored, read
from pairec_fast.remote.http import Client, HttpError


class RemoteError(Exception):
    """A model server gave no scores; the message names the algorithm and says why."""


class RemoteTimeoutError(RemoteError, TimeoutError):
    """It did not answer in time."""


class Server:
    """An algorithm of `Type` EAS and `Processor` EasyRec. *Source*: PAIREC 2.8, 6.3.

    `milliseconds` is for one try; a try that fails in the network, or with another status than 200, is made again until
    there have been `tries`. What the server itself says against a request, and an answer that cannot be read, stands.

    Raises:
        ValueError: a url or a token that cannot be sent.
    """

    def __init__(
        self, name: str, url: str, token: str, function: str, *, milliseconds: int = 100, tries: int = 2
    ) -> None:
        self.name, self.function = name, function
        self._client = Client(url, {"Authorization": token} if token else None)
        self._seconds, self._tries = milliseconds / 1000, tries

    @property
    def seconds_max(self) -> float:
        """What all tries may take."""
        return self._seconds * self._tries

    @property
    def debug_function(self) -> str:
        """What reads an answer with the features a model was given; "" where an answer of this kind has none."""
        if self.function.endswith("Debug"):
            return self.function
        return f"{self.function}Debug" if f"{self.function}Debug" in FUNCTIONS else ""

    async def ask(self, request: bytes, ids: Sequence[str], function: str = "") -> Scored:
        """What the server says of the items `ids`, in their order. `function` reads the answer, instead of its own.

        Raises:
            RemoteError: it says nothing that can be used.
        """
        for left in reversed(range(self._tries)):
            try:
                async with asyncio.timeout(self._seconds):
                    body = await self._client.post(request)
                break
            except TimeoutError:
                failed: RemoteError = RemoteTimeoutError(f"{self.name}: no answer within {self._seconds * 1000:g} ms")
            except HttpError as error:
                failed = RemoteError(f"{self.name}: {error}")
            if left == 0:
                raise failed
        try:
            return read(function or self.function, body, ids)
        except AnswerError as error:
            raise RemoteError(f"{self.name}: {error}") from error

    async def close(self) -> None:
        """Close connections that wait; on the event loop that `ask` ran on."""
        self._client.close()
