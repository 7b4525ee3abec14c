"""Upstream: asks a backend and sends its answer straight to accept (or to plugins when the itinerary says so).

    balance.py     pure: which backend (round robin, consistent hashing, least connections, power of two)
    core.py        pure: may a failed attempt be made again, and what a failure is called
    pool.py        backends with their idle connections and waiting exchanges
    connection.py  HTTP/1.1 client side on one backend connection
    exchange.py    one request: its attempts, its body, its credit
    actor.py       the table of exchanges, messages from and to the other stages

Pools outlive a reload as long as the upstream's own section does not change.
"""
