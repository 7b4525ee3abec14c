"""What config says to a stage, without a config stage: the plugin authors' kit has it too."""

from pingap.workshop.kit.config_side import Generation, blobs_of, say_config, value_of

__all__ = ["Generation", "blobs_of", "say_config", "value_of"]
