"""The metrics stage: a side-consumer that counts events, and an internal destination, which answers with the metrics page.

    core.py   the sums: plain numbers in bounded sets, from ACCESS and COUNT events
    page.py   the sums as prometheus-client metrics, and their text
    asking.py asks discovery and acme when somebody scrapes; upstreams_page.py, certificates_page.py tell what they know
    actor.py  subscribes while some server has `prometheus_metrics`, answers ROUTED

Labels come from the configuration only (servers, locations, upstreams) and from
fixed sets (status classes); what requests bring in never becomes a label. A
location that a reload removes takes its series with it; all others count on.
A restart of this stage starts from 0, which Prometheus takes for a counter reset.

The sums are kept in plain Python rather than in prometheus-client's own counters:
an event updates about twenty series, each of which would take a lock. The registry
asks `page.Collector` for them when somebody scrapes.
"""
