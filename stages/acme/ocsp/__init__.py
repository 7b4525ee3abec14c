"""OCSP responses for staples (RFC 6960, RFC 6066 section 8), for certificates that name a responder. Let's Encrypt's do not any more.

    question.py   what is asked about a certificate, and whom
    answer.py     whether what came is to be believed
    core.py       when it is asked, and which answers are handed to clients; no I/O
    fetching.py   asks; blocks
    stapler.py    does what is decided, with threads

A handshake never waits for any of this: without an answer that holds there is no staple.
"""
