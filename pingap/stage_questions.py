"""Questions of the command line that a stage answers: which one, who waits for it, and for how long.

A stage is told the same word with TELL. It answers with REPORT "answer", which names the number of that TELL and answers it alone;
or, as config does, with the outcome of something that answers all who had asked before it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

ANSWER: Final = 4.5
"""Seconds within which a question is answered; who asks waits 5."""

LONG: Final = {"cache-purge": 65.0, "cert-renew": 125.0}
"""The same, of words that take their time; who asks waits 5 more."""

OF_CONFIG: Final = ("reload", "dry-run", "rollback")
OF_DISCOVERY: Final = ("upstreams", "upstream-drain", "upstream-enable")
OF_PLUGINS: Final = ("cache-stats", "cache-purge", "cache-explain")
OF_ACME: Final = ("certs", "cert-renew")

STAGE_OF: Final = {
    word: stage
    for stage, words in {"config": OF_CONFIG, "discovery": OF_DISCOVERY, "plugins": OF_PLUGINS, "acme": OF_ACME}.items()
    for word in words
}
"""Word → the stage that answers it."""

OF_EACH: Final = frozenset(("cache-stats",))
"""Each replica of the stage answers; the reply is {"answers": [what each said], "silent": how many did not answer in time}."""

OF_ONE: Final = frozenset(("cache-purge", "cache-explain"))
"""Any one replica that is ready is asked: they would all do and say the same."""

_ABSENT: Final = {
    "config": "the config stage is not running: it reads the configuration anew when it is back",
    "discovery": "the discovery stage is not running at the moment: ask again when it is back, which `pingap ps` tells",
    "acme": "the acme stage is not running at the moment: ask again when it is back, which `pingap ps` tells",
    "plugins": "no process of the plugins stage is ready at the moment: ask again when one is, which `pingap ps` tells",
}


class Told(NamedTuple):
    """A TELL that was sent."""

    number: int
    processes: frozenset[int]
    """Keys of those to which it went; none when there is nobody to tell."""


class _Waiting(NamedTuple):
    peer: bytes
    number: int
    """The asker's, of its question."""
    word: str
    told: Told
    timer: asyncio.TimerHandle
    left: set[int]
    """Processes that have not answered yet."""
    found: list[Any]
    """What others said, of a question OF_EACH."""


class StageQuestions:
    """Those that wait for a stage."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[str, str, Iterable[Any]], Told],
        reply: Callable[[bytes, int, bool, Any], None],
    ) -> None:
        """tell: word, stage, arguments. reply: peer, number of its question, whether it is an answer, and that or why there is none."""
        self._loop = loop
        self._tell = tell
        self._reply = reply
        self._waiting: list[_Waiting] = []

    def ask(self, peer: bytes, number: int, word: str, args: tuple[Any, ...]) -> None:
        """One of STAGE_OF; it gets a reply in any case."""
        stage = STAGE_OF[word]
        told = self._tell(word, stage, args)
        if not told.processes:
            self._reply(peer, number, False, _ABSENT[stage])
            return
        timer = self._loop.call_later(LONG.get(word, ANSWER), self._time_out, peer, number)
        self._waiting.append(_Waiting(peer, number, word, told, timer, set(told.processes), []))

    def answer(self, asked: int, ok: bool, value: Any, process: int) -> None:
        """A stage answers one question. asked: the number of its TELL. process: the key of the one that says it."""
        for one in [one for one in self._waiting if one.told.number == asked]:
            if one.word in OF_EACH and ok:
                one.left.discard(process)
                one.found.append(value)
                self._look(one)
            else:
                self._end([one], ok, value)

    def _look(self, one: _Waiting) -> None:
        if not one.left:
            self._end([one], True, _gathered(one))

    def settle(self, word: str, newest: int, value: Any) -> None:
        """What became of something answers those who had asked for it up to the TELL `newest`.

        Of a change that config noticed by itself (0) it answers nobody: what is read after the question may be another text.
        """
        self._end([one for one in self._waiting if one.word == word and one.told.number <= newest], True, value)

    def forget(self, process: int) -> None:
        """That process is gone: what it alone was asked has no answer."""
        for one in [one for one in self._waiting if process in one.left]:
            one.left.discard(process)
            if one.found:
                self._look(one)
            elif not one.left:
                self._end([one], False, f"the {STAGE_OF[one.word]} stage ended before it had answered: see the log")

    def close(self) -> None:
        """Nobody is there to be answered any more."""
        for one in self._waiting:
            one.timer.cancel()
        self._waiting = []

    def _time_out(self, peer: bytes, number: int) -> None:
        for one in [one for one in self._waiting if (one.peer, one.number) == (peer, number)]:
            if one.found:
                self._end([one], True, _gathered(one))
            else:
                self._end([one], False, f"no outcome within {LONG.get(one.word, ANSWER):g} s: see the log")

    def _end(self, ended: list[_Waiting], ok: bool, value: Any) -> None:
        self._waiting = [one for one in self._waiting if one not in ended]
        for one in ended:
            one.timer.cancel()
            self._reply(one.peer, one.number, ok, value)


def _gathered(one: _Waiting) -> dict[str, Any]:
    return {"answers": one.found, "silent": len(one.left)}
