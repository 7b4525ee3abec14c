"""Does what the origins saw agree with what pingap answered, and with the payload read by the book?"""

from __future__ import annotations

from dataclasses import replace

from tests.smuggling.book import Reading, Request, read
from tests.smuggling.lab import Lab, Run
from tests.smuggling.origins import Asgi, BehindNginx, Recorder


def verdict(run: Run) -> str:
    """What became of the first request: `passed`, `answered` by pingap, `refused`, or `neither`."""
    if run.answers and not run.answers[0].is_refusal:
        return "answered" if not run.answers[0].serial and run.answers[0].status < 300 else "passed"
    return "neither" if run.garbage or run.hung else "refused"


def disagreements(lab: Lab, run: Run) -> list[str]:
    """What is wrong with one run; nothing, one hopes."""
    found: list[str] = []
    book = run.book
    if run.hung:
        found.append("the connection stayed open")
    if run.garbage:
        found.append(f"not an answer: {run.garbage[:100]!r}")
    if any(answer.is_refusal for answer in run.answers[:-1]):
        found.append("an answer came after a refusal")
    given = [answer for answer in run.answers if not answer.is_refusal]
    if len(given) > len(book.requests):
        found.append(f"{len(given)} requests passed, the book has {len(book.requests)} ({book.error})")
    if not _may_end(run, book):
        found.append(f"{len(run.answers)} answers for {len(book.requests)} requests, and no refusal")
    seen = lab.records(run.door.origin, run.mark)
    serials = [answer.serial for answer in given if answer.serial]
    # One that the origin has answered early may be left there without the rest of its body.
    whole = {record.serial: record for record in seen if record.is_whole or record.request.all(b"x-early")}
    if serials != list(whole):
        found.append(f"answered were {serials}, the origin saw {[shown(record.request) for record in whole.values()]}")
    if len(seen) > len(whole) + (len(given) < len(run.answers)):
        found.append(f"{len(seen)} requests were begun for {len(run.answers)} answers")
    origin = lab.origins[run.door.origin]
    logged = origin.logged().get(run.mark, []) if isinstance(origin, BehindNginx) else []
    from_there = len(serials)
    for answer, meant in zip(given, book.requests, strict=False):
        if answer.serial in whole:
            record = whole[answer.serial]
            if not record.is_whole and meant.body.startswith(record.request.body):
                meant = replace(meant, body=record.request.body)
            if run.door.origin in LOSES_BODIES and record.request.all(b"upgrade") and not record.request.body:
                meant = replace(meant, body=b"")
            found += unlike(record.request, meant, MERGED.get(run.door.origin, frozenset()))
        elif f"{meant.method.decode()} {meant.target.decode('latin-1')} HTTP/1.1 {answer.status}" in logged:
            from_there += 1  # nginx has understood the same, and will not do it
        elif meant.method != b"OPTIONS":
            found.append(f"{answer.status} for {shown(meant)}, and not from the application")
    if isinstance(origin, BehindNginx) and len(logged) not in (from_there, from_there + (len(given) < len(run.answers))):
        found.append(f"nginx logged {logged} for {from_there} answers")
    return found


def _may_end(run: Run, book: Reading) -> bool:
    """Every request of the book is answered, unless pingap has said no or the last answered one was to be the last."""
    if any(answer.is_refusal for answer in run.answers):
        return True
    return len(run.answers) == len(book.requests) or (not run.answers and not book.requests)


def unlike(seen: Request, meant: Request, merged: frozenset[bytes]) -> list[str]:
    found = []
    if seen.said() != meant.said():
        found.append(f"the origin saw {shown(seen)}, the book says {shown(meant)}")
    hosts = seen.all(b"host")
    wanted = [host.lower() for host in meant.all(b"host")]
    if wanted and [host.lower() for host in hosts] != wanted:
        found.append(f"Host was {hosts}, the book says {wanted}")
    if any(b"smuggled" in name for name, _ in seen.headers):
        found.append(f"a line was injected: {seen.headers}")
    if len(seen.all(b"content-length")) + len(seen.all(b"transfer-encoding")) > 1:
        found.append(f"two framings: {seen.headers}")
    if seen.all(b"x-real-ip") != [b"127.0.0.1"] or seen.all(b"x-forwarded-for") != [b"127.0.0.1"]:
        found.append(f"the client's address: {seen.all(b'x-real-ip')}, {seen.all(b'x-forwarded-for')}")
    if seen.all(b"x-set") != [b"by-pingap"] or seen.all(b"x-gone"):
        found.append(f"what pingap sets and removes: {seen.all(b'x-set')}, {seen.all(b'x-gone')}")
    known = {name for name, _ in meant.headers}
    unknown = {name for name, _ in seen.headers} - known - ADDED - merged
    if unknown:
        found.append(f"lines that nobody sent: {unknown}")
    return found


ADDED = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"via", b"upgrade", b"te", b"sec-websocket-key")
    + (b"x-set", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
)
"""Lines that pingap, or nginx behind it, writes itself."""

LOSES_BODIES = ("uvicorn-httptools",)
"""For llhttp a request that asks to switch ends with its head, whatever its framing says; uvicorn answers it and drops what
follows. Nothing else can come of that: pingap never uses such a connection again."""

MERGED = {"uvicorn-httptools": frozenset((b"x-a", b"x-b"))}
"""Trailers of the payloads that may pass: uvicorn with httptools takes all trailers for headers, so those that mean something
must not reach it."""


def shown(request: Request) -> tuple[bytes, bytes, bytes]:
    return request.method, request.target[:60], request.body[:60]


def of_origins(lab: Lab) -> list[str]:
    """What is wrong with what the origins saw in all."""
    found: list[str] = []
    for origin in lab.origins.values():
        found += [f"{origin.name} got what no server takes: {stray[:200]!r}" for stray in origin.strays]
        found += [f"{origin.name} saw a request of no run: {shown(record.request)}" for record in origin.records if not record.mark]
        if isinstance(origin, Asgi) or not origin.streams:
            continue
        found += _read_again(origin)
    return found


def _read_again(origin: Recorder) -> list[str]:
    """The bytes of every connection to a recorder, read by the book: the requests must be those that it recorded."""
    meant: list[tuple[bytes, bytes, bytes]] = []
    found: list[str] = []
    unfinished = 0
    for stream in origin.streams:
        book = read(bytes(stream))
        meant += [request.said() for request in book.requests]
        if book.error == "incomplete":
            unfinished += 1
        elif book.error:
            found.append(f"{origin.name}, by the book: {book.error}: {book.rest[:200]!r}")
    seen = [record.request.said() for record in origin.records if record.is_whole]
    if sorted(meant) != sorted(seen):
        more = [item for item in meant if item not in seen], [item for item in seen if item not in meant]
        found.append(f"{origin.name} saw {len(seen)} requests, the book {len(meant)}: {str(more)[:400]}")
    incomplete = [record for record in origin.records if not record.is_whole]
    if len(incomplete) < unfinished:
        found.append(f"{origin.name}: {unfinished} unfinished requests, {len(incomplete)} of them begun")
    return found
