"""What accept is to go by, as the topic `certificates` has it (bus/PROTOCOL.md section 6), and who goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from time import time
from typing import Any, Final

import msgpack

from pingap.bus.actor import Context
from pingap.stages.acme.wanted import Issued
from pingap.stages.messages import CertificatesTaken

TOPIC: Final = "certificates"
_DIGEST: Final = 16


class CertificatesTopic:
    """Published from its making on, as version 0 until `publish` is called: that nothing is known yet."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tell = context.publish(TOPIC, _value(0, {}, {}, {}, b""))
        self.version = 0
        self.issued: Mapping[str, Issued] = {}
        self.challenges: dict[str, Issued] = {}
        """By the name that authorities ask for."""
        self.staples: Mapping[str, bytes] = {}
        self.tickets: tuple[bytes, ...] = ()
        self._taken: dict[int, int] = {}
        """Version that an accept actor goes by."""

    def publish(self) -> int:
        """What the fields say goes to accept; the version that says so. It grows over lives of this stage, too."""
        self.version = max(self.version + 1, int(time() * 1000))
        bodies: dict[bytes, bytes] = {}

        def named(body: bytes) -> bytes:
            digest = blake2b(body, digest_size=_DIGEST).digest()
            bodies[digest] = body
            return digest

        pairs = [{name: named(_pair(one)) for name, one in some.items()} for some in (self.issued, self.challenges)]
        staples = {leaf: named(staple) for leaf, staple in self.staples.items()}
        tickets = named(msgpack.packb(list(self.tickets))) if self.tickets else b""
        self._tell(_value(self.version, pairs[0], pairs[1], staples, tickets), bodies)
        return self.version

    def taken(self, message: CertificatesTaken) -> None:
        """CERTIFICATES_TAKEN."""
        self._taken[message.actor] = message.version

    @property
    def taken_by_all(self) -> int:
        """The version that every accept actor goes by, or a later one; that of now when there is none to go by any."""
        actors = [member.id for member in self._context.members.ready("accept")]
        self._taken = {actor: version for actor, version in self._taken.items() if actor in self._context.members.by_id}
        return min((self._taken.get(actor, 0) for actor in actors), default=self.version)


def _value(
    version: int, issued: Mapping[str, bytes], challenges: Mapping[str, bytes], staples: Mapping[str, bytes], tickets: bytes
) -> dict[str, Any]:
    return {"version": version, "issued": issued, "challenges": challenges, "staples": staples, "tickets": tickets}


def _pair(one: Issued) -> bytes:
    packed: bytes = msgpack.packb({"cert": one.cert, "key": one.key})
    return packed
