"""What becomes of a message on its way to another process: the plugin authors' kit has it too."""

from pingap.workshop.kit.wire import MESSAGES, over_the_wire, plain

__all__ = ["MESSAGES", "over_the_wire", "plain"]
