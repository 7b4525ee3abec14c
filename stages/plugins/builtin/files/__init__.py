"""Parts of `directory` (../directory.py). Each imports those before it only.

web_paths.py  media_types.py  listing.py           decide
tree.py (the disk)  served_file.py  finder.py      run in threads
remembered.py  searches.py                         are on the loop
"""
