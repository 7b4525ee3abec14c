"""Content codings of answers (RFC 9110 section 8.4): what the two stages share that may code one.

- rules.py decides: from a `compression` section, the request's lines and the answer's head, whether an answer is
  coded, and what its head says then. No I/O, no clock.
- encoders.py codes: whole bodies at once, others piece by piece, with gzip, brotli and zstd.

Where compression is all that a location's plugins do with answers, and its levels are cheap, upstream codes as the
backend's bytes come (RESPONSE_CODING in the itinerary); else plugins does, where the other hooks are, and threads for
what takes long (docs/decisions/0015).
"""
