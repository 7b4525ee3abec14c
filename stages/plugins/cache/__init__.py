"""The HTTP cache of the plugins stage. What it decides is in stages/caching/; this keeps, fetches and serves."""
