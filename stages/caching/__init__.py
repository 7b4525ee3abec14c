"""The rules of an HTTP cache (RFC 9111, 5861, 9211, 9213), without a store, a socket or a clock: what may be kept, for how long it is
fresh, and what a request gets of it. Times are seconds of the store's clock (stages/plugins/cache/store), which no change of the
wall clock moves.

Each file decides, from bytes and times that it is given:

entry          what is kept of an answer
directives     what Cache-Control, targeted fields and Surrogate-Control say
policy         what the operator says
storing        whether an answer is kept, and what of it
freshness      for how long it is fresh, and what it may be used for after that
vary           which requests it is for: names, values in one form, the keys of variants
tags           Cache-Tag and Surrogate-Key
reuse          what a request gets of what is kept
validating     conditions for the backend, and what comes of a 304
purging        what a PURGE request asks for
keys           under what it is stored: KeyRules        header_part    what a header adds to that
names          patterns of names of parameters and cookies
place          where a cache keeps its answers (`directory`)     neighbours  that share it and do not agree
cache_rules    what the settings of one cache come to: CacheRules
invalidating   what becomes invalid by a request that has changed something
derived        where that is which was made of a stored body, and to what it belongs
cache_status   the line that tells what was done        words    in one word
"""
