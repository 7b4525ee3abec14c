"""Certificates over their whole life: got from an authority (RFC 8555), renewed in time, watched, and brought to accept.

What is wanted, and what is done about it when:
    wishes.py    what a configuration asks for; wanted.py: one of that
    core.py      the course of each certificate (words.py: what it is told and what it decides); due.py: when it is renewed or tried again
    currents.py  which certificate clients are shown    suggestions.py  when authorities want them renewed
    ways.py      when it is looked whether clients are shown it       records.py   what is remembered of tries
    expiries.py  which certificates are about to end, and when that is told

Doing it:
    actor.py       the stage      tries.py      one try, in a thread
    authority/     the authority's side of it    dns/  proofs in zones (dns_voice.py: said to people)
    presenter.py   what a proof is               http_proofs.py (challenged.py: who asks), tls_proofs.py: the other two
    store/         where certificates are kept    reading.py  how the core knows it    held.py  one of them    aside.py  threads
    topic.py      what accept goes by    handshakes.py  whether clients are shown it
    answering.py   who asks: statuses.py is what is known of each certificate, asked.py which are meant
    tickets.py   which secret session tickets are made of (ticket_keeper.py, ticket_places.py)    ocsp/  responses for staples
    run_dir_file.py  what of these a restart goes on with    bounded.py, cutting.py  exchanges that have an end

Everything that waits for others is done in threads; this stage is on no request's way but that of a challenge.
"""
