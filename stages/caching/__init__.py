"""The rules of an HTTP cache (RFC 9111, 5861, 9211, 9213), without a store, a socket or a clock: what may be kept, for how long it is
fresh, and what a request gets of it. Times are seconds of the store's clock (stages/plugins/cache/store), which no change of the
wall clock moves.

entry          what is kept of an answer
purging        what a PURGE request asks for
keys           under what it is stored: KeyRules        header_part    what a header adds to that
names          patterns of names of parameters and cookies
place          where a cache keeps its answers (`directory`)
cache_rules    what the settings of one cache come to: CacheRules
"""
