"""Configuration languages: the text of a document to tables, the same whatever the language, and back. What they mean is for load.py.

formats.py      which languages there are, by the suffix of a document's name
toml.py         TOML: to tables, and where a text is none; one item of it edited
items.py        a document in pieces, one for each item
hcl.py          HCL: to blocks            hcl_writer.py   and tables to HCL
kdl_nodes.py    KDL: to nodes
kdl.py          nodes to blocks           kdl_writer.py   and tables to KDL
blocks.py       blocks in blocks to tables: what HCL and KDL have in common
lists.py        which keys are lists, which KDL does not show
places.py       where something is in a text, and how deep one may be nested
"""
