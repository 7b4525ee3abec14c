"""The plugins stage: runs the plugins of a location on its requests, answers and bodies.

    api.py  exchange.py  context.py   what a plugin is made of, and what its hooks see (pingap/plugin.py re-exports it)
    builtin/    one file a plugin     registry.py   which there are
    validation.py  a section becomes settings    making.py  and a plugin    checking.py  tells what is wrong; plans itineraries
    host.py     what plugins may ask: claims.py (limits.py counts), endings.py, threads.py, fetch.py (requests
                of their own), figures.py and counts.py (how many requests there are), processes.py (work.py is what happens in one)
    user_code.py  loads a user's plugin, with own_modules.py    installed.py  plugins of packages    trial.py  tries both in a child before
    guard.py    a deadline for its code, and turns; driving.py  the same for what it awaits; guarded.py  both around a plugin
    chain.py    the hooks of a location, in order, of live.py (plugins that were started)    runner.py  runs them, meters.py
                measures them
    compiler.py makes the chains of a generation, starts and stops plugins    leaving.py  what locations make of header lines
    core.py     a body on its way through transformers, within credit: decides    pieces.py file_body.py  long replies
Each imports those before it only: bodies.py (moves bodies), stream.py (requests that are still here),
failures.py (who hears of them), answers.py and requests.py (the two halves of a way), probes.py (questions about one URL),
cache/ (the HTTP cache), actor.py (messages).

A request whose hooks all answer at once leaves nothing behind: hooks are run, the changed ROUTED goes on, and no state is
kept. Whatever needs more (an await, a body, the response) becomes a `PluginStream`, and the parts of it that wait are tasks.

The stage holds at most a window of input (256 KiB) and one piece of output for each body: it grants credit to the sender
only as the receiver takes what was made of it.

A hook that fails answers 500 (`plugin_failed`), or cuts the body when the head is out. It never lets the request pass.
"""
