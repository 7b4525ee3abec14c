"""Configuration languages: the text of a document to tables, the same whatever the language. What they mean is for load.py.

formats.py  which languages there are, by the suffix of a document's name
toml.py     TOML: to tables, and where a text is none
items.py    a document in pieces, one for each item
places.py   where something is in a text, and how deep one may be nested
"""
