"""Parts of `limit` (../limit.py). What the replicas count by themselves is in stages/plugins/limits.py.

fields.py     Retry-After and the RateLimit fields
queue.py      requests that wait for their turn
store.py      counts in redis or valkey, for several hosts: store_url.py where that is, scripts.py what it runs,
              leases.py the places in flight that are renewed there
"""
