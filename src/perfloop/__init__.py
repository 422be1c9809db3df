"""perfloop: the performance engineer in software."""

__version__ = "0.1.0"
