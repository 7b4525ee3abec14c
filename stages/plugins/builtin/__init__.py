"""The plugins that come with pingap, one file each; stages/plugins/registry.py lists them.

Each file: a model of the section's keys, a plugin, and nothing that runs when it is
imported or made. Texts and names that clients see are the reference's
(pingap-plugin/docs).
"""
