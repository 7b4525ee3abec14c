"""The plugins that come with pingap, one file each; stages/plugins/registry.py lists them.

Each file: a model of the section's keys, a plugin, and nothing that runs when it is
imported or made. Texts and names that clients see are the reference's
(pingap-plugin/docs).

Parts of `directory`, each of which imports those before it only: web_paths.py, ranges.py, conditions.py, media_types.py, listing.py
decide; tree.py (the disk), served_file.py, finder.py run in threads; remembered.py, searches.py are on the loop.
"""
