"""A context without processes: the plugin authors' kit has it too."""

from pingap.workshop.kit.context import FakeContext

__all__ = ["FakeContext"]
