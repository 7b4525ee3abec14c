"""What clients see of an outage behind pingap, nginx and Envoy: `python -m bench.outages`.

__main__.py   the command: which scenarios with which proxies, and the table
scenarios.py  three real nginx backends, and what happens to one of them
names.py      a dnsmasq whose records change
proxies.py    how each proxy is told to do the same
load.py       requests that leave at their times, and what was seen of each
figures.py    errors, slow answers, and the seconds until traffic has left and is back
"""
