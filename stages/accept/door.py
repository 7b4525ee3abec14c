"""What the connections of a server's listeners need to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pingap.config.model import Server
from pingap.stages.accept.certificates.chooser import Chooser
from pingap.stages.forwarded import Trust
from pingap.stages.http1.engine import HeadParser
from pingap.stages.http1.rules import HeadLimits
from pingap.stages.http2.engines import MakeEngine, engine


@dataclass(slots=True)
class Door:
    """One server section as the connections of its listeners see it; a reload changes it in place."""

    name: str
    engine: HeadParser
    settings: Server
    limits: HeadLimits
    chooser: Chooser | None
    """Of certificates; None where clients speak plainly."""
    trust: Trust = field(default_factory=lambda: Trust(()))
    """Who may say that a connection is another's (`proxy_protocol`)."""
    connections: int = 0
    make_http2: MakeEngine | None = None
    """Of engines for HTTP/2; None where it is not spoken."""
    told: dict[str, float] = field(default_factory=dict)
    """What was wrong with connections to it → monotonic seconds at which the log was last told so."""

    def __post_init__(self) -> None:
        self.allow_http2()

    def allow_http2(self) -> None:
        """Takes over `enabled_h2`. Its library is imported now and not when the first client waits for it."""
        self.make_http2 = engine(self.settings.http2_engine) if self.settings.enabled_h2 else None

    @property
    def scheme(self) -> str:
        return "http" if self.chooser is None else "https"


def limits_of(settings: Server, keeps_case: bool = False) -> HeadLimits:
    return HeadLimits(settings.max_header_bytes, settings.max_headers, settings.max_target_bytes, settings.escape_target, keeps_case)
