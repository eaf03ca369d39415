"""Streams that tell when something is written to them; for child processes too, so it loads next to nothing."""

import io
from collections.abc import Callable


class Watched(io.StringIO):
    """A stream that calls `act` with each piece that is written to it; a terminal, if one is wanted."""

    def __init__(self, act: Callable[[str], object], terminal: bool) -> None:
        super().__init__()
        self.act, self.terminal = act, terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        written = super().write(text)
        if text.strip():
            self.act(text)
        return written
