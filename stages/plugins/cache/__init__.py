"""The HTTP cache of the plugins stage. What it decides is in stages/caching/; this keeps, fetches and serves.

serving         from what is stored, or growing, to the reply that a request gets of it
stored_bodies   opens and reads the bodies that are files, without the loop's waiting for a disk
"""
