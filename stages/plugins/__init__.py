"""The plugins stage: runs the plugins of a location on its requests, answers and bodies.

    api.py        what a plugin is made of (pingap/plugin.py re-exports it)     exchange.py  what a hook sees
    builtin/      one file a plugin       registry.py   which there are; checks sections, plans itineraries
    chain.py      the hooks of a location, in order, made once a generation     runner.py  runs them
    context.py    what plugins tell each other, and what of it can travel
    core.py       a body on its way through transformers, within credit: decides, does nothing
    limits.py     what `limit` counts by: decides     claims.py   `host.claim`    host.py  what plugins may ask
    user_code.py  loads a user's plugin               trial.py    tries it in a child before
    guard.py      a deadline for its code, and turns  driving.py  the same for what it awaits
    guarded.py    puts both around a plugin           threads.py  the threads of one plugin

Each imports those before it only: bodies.py (moves bodies), stream.py (requests that are still here),
failures.py (who hears of them), answers.py and requests.py (the two halves of a way), actor.py (messages).

A request whose hooks all answer at once leaves nothing behind: hooks are run, the
changed ROUTED goes on, and no state is kept. Whatever needs more (an await, a body, the
response) becomes a `PluginStream`, and the parts of it that wait are tasks.

The stage holds at most a window of input (256 KiB) and one piece of output for each
body: it grants credit to the sender only as the receiver takes what was made of it.

A hook that fails answers 500 (`plugin_failed`), or cuts the body when the head is out.
It never lets the request pass.
"""
