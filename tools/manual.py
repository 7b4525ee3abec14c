"""Writes docs/builtin-plugins.md anew: `make docs`."""

from pathlib import Path

from pingap.workshop.manual import page

if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs/builtin-plugins.md").write_text(page(), encoding="utf-8")
