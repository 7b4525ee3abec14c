"""What is remembered of tries over a restart, and shared with other instances: on the shelf, by the id of what is wanted."""

from __future__ import annotations

from typing import Final

import msgspec


class TryRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times are Unix seconds, 0 where there is none."""

    at: float = 0.0
    """Of the last change."""
    attempts: int = 0
    """That have failed since the last success."""
    failed_at: float = 0.0
    error: str = ""
    """Why the last one failed."""
    next_try: float = 0.0
    word: float = 0.0
    """Before which the authority does not want to be asked, however."""
    means: str = ""
    """`WantedCertificate.means` of the last one that failed: with others it is tried at once."""
    got_at: float = 0.0
    """When one came of it last."""
    got_before: float = 0.0
    """The same of the one before."""


NO_RECORD: Final = TryRecord()

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(TryRecord)


def packed_record(record: TryRecord) -> bytes:
    """For the shelf."""
    return _encoder.encode(record)


def read_record(value: bytes | None) -> TryRecord:
    """What is not there, or is none, is as if nothing had been tried."""
    try:
        return _decoder.decode(value) if value is not None else NO_RECORD
    except msgspec.DecodeError:
        return NO_RECORD
