"""The HTTP cache of the plugins stage. What it decides is in stages/caching/; this keeps, fetches and serves.

machine         the hooks of one section: a hit at once, all else has a turn
turn            one request until it is answered or goes on      fetching   on its way to the backend, and its answer: stored, or not
cached_request  what both know of it      refreshing   behind a client's back      telling   what is said of it
filling         answers on their way into the store, apart from their clients      sink   where they go      outcomes  what became of them
parts           what a cache works with      caches   those of one process
store/          what is kept, for all replicas      flights/   one fetch of a key at a time over all of them
serving         from what is stored, or growing, to the reply that a request gets of it
purge           PURGE requests, and what they do to the store
explain         what a request would get of what is stored, and why
probe           a question about one URL, which purge and explain answer      questions   all that the operator asks
overview        the caches of this process, with their figures
derivations     what hooks make of stored bodies, kept with these: a hit is compressed once   derived_keeper   puts it
passing_part    of a body that is not stored, the part that its client has asked for
whole_body      of what a hook wants whole: it is waited for, then judged
stored_bodies   opens and reads the bodies that are files, without the loop's waiting for a disk
"""
