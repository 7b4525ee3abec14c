"""For authors and users of plugins: what plugins there are, and what one needs to write one.

catalogue.py  all plugins and their keys, from the models and the docstrings
manual.py     docs/builtin-plugins.md, made of the catalogue
listing.py    the same as text: `pingap plugins`
templates.py  the files of a new plugin; making.py writes them
running.py    runs the tests of a plugin
kit/          the stage for tests of plugins: `pingap.plugin_testing`
"""
