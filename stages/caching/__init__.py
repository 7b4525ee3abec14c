"""The rules of an HTTP cache (RFC 9111, 5861, 9211, 9213), without a store, a socket or a clock: what may be kept, for how long it is
fresh, and what a request gets of it. Times are seconds of the store's clock (stages/plugins/cache/store), which no change of the
wall clock moves.

entry          what is kept of an answer
purging        what a PURGE request asks for
"""
