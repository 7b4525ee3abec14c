"""Certificates over their whole life: got from an authority (RFC 8555), renewed in time, watched, and handed to accept.

    wanted.py       what a [certificates.X] with `acme` asks for
    wishes.py       that, from a configuration
    presenter.py    how the proof that a name is ours comes to be seen
    statuses.py     what is known of each certificate, to be shown; answering.py tells it to who asks, asked.py decides what
    expiries.py     which are about to end, and when that is told

Everything that waits for others is done in threads; this stage is on no request's way but that of a challenge.
"""
