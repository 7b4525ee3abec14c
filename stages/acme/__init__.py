"""Certificates over their whole life: got from an authority (RFC 8555), renewed in time, watched, and handed to accept.

    wanted.py       what a [certificates.X] with `acme` asks for
    presenter.py    how the proof that a name is ours comes to be seen

Everything that waits for others is done in threads; this stage is on no request's way but that of a challenge.
"""
