"""Prints the requests that took longer than half a second, and where the time went.

Start pingap, then run this beside it: `python examples/events/slow.py`
"""

from pingap import events

for event in events.stream(topics=("access",)):
    if isinstance(event, events.AccessEvent) and event.duration > 0.5:
        stages = " ".join(f"{name}={seconds * 1000:.0f}ms" for name, seconds in event.timings.items())
        print(event.status, event.method, event.host + event.path, stages, flush=True)
