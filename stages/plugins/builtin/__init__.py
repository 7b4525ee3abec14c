"""The plugins that come with pingap, one file each; stages/plugins/registry.py lists them.

Each file: a model of the section's keys, a plugin, and nothing that runs when it is
imported or made. Texts and names that clients see are the reference's
(pingap-plugin/docs).

Parts of one plugin are in packages: files/ of `directory`, images/ of `image_optim`, limits/ of `limit`, tokens/ of `jwt`; small ones stand
beside it: country_database.py (geo_restriction), encodings.py (compression), exact_share.py (traffic_splitting),
machine.py (stats), substitution.py (sub_filter). Several have in common: admission.py and header_admission.py (allow or deny),
credential.py (where a secret is), origins.py (of pages), overwritten.py (headers given in vain).
"""
