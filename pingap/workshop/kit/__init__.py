"""A plugins stage without processes: what `pingap.plugin_testing` is made of, and our own tests of plugins.

wire.py         what becomes of a message on its way to another process
context.py      a bus context that remembers what an actor sends
config_side.py  what config says to a stage
fed_stage.py    the stage, fed by hand: messages in, messages out
plugin_stage.py the stage with a client and upstreams that are played: requests in, answers out
job_starts.py   processes for `host.in_process`, the only ones that there are, and only where it is used
client.py       what the client sends and gets
live.py         a whole `pingap up` instead; ports.py: where it listens
backend.py      upstreams that say what a test tells them to
"""
