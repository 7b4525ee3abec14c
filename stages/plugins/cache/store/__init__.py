"""Where the cache keeps answers, for all processes of an instance: an index in LMDB, segment files for heads and small bodies, a file for
each large body (docs/decisions/0039).

    places.py   opens stores, in threads: opening.py, closings.py    memory_place.py  where those in memory are    free_memory.py
    cache_store.py  what others use: reads on the loop, orders changes    part_file.py  a body that grows    store_stats.py
    growing_room.py  what those that grow take
    store_root.py  generations, and which counts    shelf.py  one, open    syncing.py
    committer.py    the thread that changes it: orders.py    change.py  one transaction    segment_writer.py
                    evictor.py, purger.py (in steps), quotas.py (namespaces, variants), housekeeper.py (from time to time)
    index.py        LMDB       files.py  all other files    records.py  what is in both    shared_table.py  touches, ghosts
    short_keys.py   keys that LMDB takes
    eviction.py     decides what goes    ghosts.py  who went lately    purge_log.py  what was purged: these do no I/O
    purges_seen.py  the latter as the loop sees it
"""
