"""What a command says while it works: on stderr, so that stdout is data alone."""

from __future__ import annotations

import sys


class Bars:
    """Progress of named steps: a bar each while stderr is a terminal, a line each otherwise."""

    def __init__(self) -> None:
        self._bar: object = None
        self._step = ""

    def __call__(self, step: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if step != self._step:
            self.close()
            self._step = step
            if not sys.stderr.isatty():
                say(f"{step} ...")
            self._bar = tqdm(total=total, desc=step, file=sys.stderr, disable=None, leave=True)
        bar = self._bar
        bar.total = total  # type: ignore[attr-defined]
        bar.update(done - bar.n)  # type: ignore[attr-defined]

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()  # type: ignore[attr-defined]
            self._bar, self._step = None, ""


def say(line: str) -> None:
    print(line, file=sys.stderr)
