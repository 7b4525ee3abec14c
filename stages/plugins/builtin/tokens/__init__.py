"""Parts of `jwt` (../jwt.py).

token.py      reads and writes a token; claims.py: what has to be in one, and who is told
keys.py       keys and algorithms; jwks.py: those that an issuer publishes, fetched and kept
verified.py   good tokens, remembered until they end
minting.py    tokens made of a backend's answers
"""
