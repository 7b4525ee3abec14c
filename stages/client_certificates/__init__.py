"""What the certificate of a client says of it (RFC 5280), for header variables, plugins and the log.

It has been verified by the TLS library before anybody here sees it; what is read is what others get to see.

der.py                   values of ASN.1 in DER, one inside the other
distinguished_names.py   who it is, as one line (RFC 2253), as OpenSSL and with it nginx writes it
details.py               all of a certificate that is asked for
"""
