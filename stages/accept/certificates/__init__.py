"""Which certificate a client gets, and in what its handshake begins.

choice.py         by the name that it asks for (SNI, RFC 6066 section 3): exact, wildcard, default
chooser.py        of one server, what stays the same over reloads: where handshakes begin, and session tickets
contexts.py       contexts of the TLS library, made of a server's keys and of a certificate, and kept while in use
topic.py          what the acme stage publishes: certificates, proofs, staples, secrets of tickets
minting.py        certificates made on the fly, kept and renewed; signing.py makes them, mint_budget.py says how many
proofs.py         what an authority is shown that looks whether a name is ours
ticket_keys.py    the key of a server's session tickets, made of a secret that all replicas have
staples.py        OCSP responses: which certificate has one, and its contexts
openssl.py        the calls of OpenSSL for these two, which Python's `ssl` lacks
openssl_trial.py  whether they work here, found out in a process that may crash
"""
