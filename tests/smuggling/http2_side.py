"""HTTP/2 payloads: frames as they are, a probe on the next stream, and what became of either."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import hpack

from pingap.stages.http2.engine import PREFACE
from tests.http2.wire import ACK, GOAWAY, HEADERS, RST, SETTINGS, frame, headers
from tests.smuggling.book import Request
from tests.smuggling.lab import DEADLINE, Answer, Door, Lab
from tests.smuggling.origins import BehindNginx
from tests.smuggling.payload import MARK
from tests.smuggling.payloads_http2 import Http2Payload
from tests.smuggling.verdict import MERGED, shown, unlike

PATIENCE = 3.0
"""Seconds until the probe is sent although the first stream has not ended."""


@dataclass(slots=True)
class Http2Run:
    door: Door
    mark: bytes
    answers: dict[int, Answer] = field(default_factory=dict)
    """By stream."""
    resets: set[int] = field(default_factory=set)
    went_away: bool = False
    """GOAWAY with an error, or the end of the connection."""
    hung: bool = False

    def is_over(self, stream: int) -> bool:
        return stream in self.answers or stream in self.resets or self.went_away


@dataclass(frozen=True, slots=True)
class Http2Outcome:
    payload: Http2Payload
    run: Http2Run
    wrong: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        answer = self.run.answers.get(1)
        if answer is not None and not answer.is_refusal:
            return "passed"
        return "refused" if self.run.is_over(1) else "neither"

    @property
    def is_expected(self) -> bool:
        return self.payload.verdict in (self.verdict, "either")


async def say(lab: Lab, door: Door, wire: bytes) -> Http2Run:
    async with lab.room:
        run = Http2Run(door, lab.new_mark())
        try:
            async with asyncio.timeout(DEADLINE):
                await _talk(lab.ports[door], wire.replace(MARK, run.mark), run)
        except TimeoutError:
            run.hung = True
        return run


async def _talk(port: int, wire: bytes, run: Http2Run) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + frame(SETTINGS) + wire)
    fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"/probe/" + run.mark))
    probe = headers(3, (*fields, (b"x-mark", run.mark)), True)
    decoder = hpack.Decoder()
    buffer = b""
    has_probed = False
    try:
        while not run.is_over(3):
            if not has_probed and run.is_over(1):
                writer.write(probe)
                has_probed = True
            try:
                part = await asyncio.wait_for(reader.read(65536), None if has_probed else PATIENCE)
            except TimeoutError:
                writer.write(probe)
                has_probed = True
                continue
            if not part:
                run.went_away = True
                break
            buffer = _take(buffer + part, decoder, run, writer)
    except ConnectionError:
        run.went_away = True
    finally:
        writer.close()


def _take(buffer: bytes, decoder: hpack.Decoder, run: Http2Run, writer: asyncio.StreamWriter) -> bytes:
    while len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
        size = int.from_bytes(buffer[:3], "big")
        kind, flags, stream, body = buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big"), buffer[9 : 9 + size]
        buffer = buffer[9 + size :]
        if kind == SETTINGS and not flags & ACK:
            writer.write(frame(SETTINGS, ACK))
        elif kind == HEADERS:
            found = {bytes(name): bytes(value) for name, value in decoder.decode(body, raw=True)}
            status = int(found.get(b":status", b"0"))
            if status >= 200:
                is_refusal = b"x-pingap-etype" in found
                run.answers[stream] = Answer(status, found.get(b"x-serial", b"").decode(), is_refusal)
        elif kind == RST and stream not in run.answers:
            run.resets.add(stream)
        elif kind == GOAWAY and int.from_bytes(body[4:8], "big"):
            run.went_away = True
    return buffer


def disagreements(lab: Lab, outcome: Http2Outcome) -> list[str]:
    """What the origin saw must be the payload as meant, when it passed, and the probe; nothing else."""
    run, payload = outcome.run, outcome.payload
    found: list[str] = []
    if run.hung:
        found.append("neither answered nor reset")
    if outcome.verdict == "passed" and payload.meant is None:
        found.append("an answer for what nobody may see")
    seen = lab.records(run.door.origin, run.mark)
    whole = {record.serial: record for record in seen if record.is_whole}
    given = [(stream, answer) for stream, answer in sorted(run.answers.items()) if not answer.is_refusal]
    serials = [answer.serial for _, answer in given]
    if sorted(serials) != sorted(whole):
        found.append(f"answered were {serials}, the origin saw {[shown(record.request) for record in whole.values()]}")
    if len(seen) > len(whole) + 1:
        found.append(f"{len(seen)} requests were begun")
    probe = Request(b"GET", b"/probe/" + run.mark, b"", [(b"host", b"a.example"), (b"x-mark", run.mark)])
    for stream, answer in given:
        meant = probe if stream == 3 else payload.meant
        if meant is not None and answer.serial in whole:
            request = whole[answer.serial].request
            meant = Request(meant.method, meant.target.replace(MARK, run.mark), meant.body.replace(MARK, run.mark), meant.headers)
            if stream == 1:
                meant.headers = _sent(payload)
            found += unlike(request, meant, MERGED.get(run.door.origin, frozenset()))
    origin = lab.origins[run.door.origin]
    if isinstance(origin, BehindNginx):
        logged = origin.logged().get(run.mark, [])
        if len(logged) > len(serials) + (not outcome.run.answers.get(1) or outcome.run.answers[1].is_refusal):
            found.append(f"nginx logged {logged} for {len(serials)} answers")
    return found


def _sent(payload: Http2Payload) -> list[tuple[bytes, bytes]]:
    """The fields of a payload as header lines, with Host first."""
    size = int.from_bytes(payload.wire[:3], "big")
    fields = [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(payload.wire[9 : 9 + size], raw=True)]
    host = next((value for name, value in fields if name in (b":authority", b"host")), b"")
    return [(b"host", host), *(field for field in fields if field[0][:1] != b":" and field[0] != b"host")]


async def run_all(lab: Lab, pairs: list[tuple[Http2Payload, Door]], settle: bool) -> list[Http2Outcome]:
    outcomes = await asyncio.gather(*(_run_one(lab, payload, door) for payload, door in pairs))
    if settle:
        await lab.settled()
    return [Http2Outcome(outcome.payload, outcome.run, tuple(disagreements(lab, outcome))) for outcome in outcomes]


async def _run_one(lab: Lab, payload: Http2Payload, door: Door) -> Http2Outcome:
    return Http2Outcome(payload, await say(lab, door, payload.wire))
