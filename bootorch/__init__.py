"""bootorch: brings a dark data centre back, in dependency order, with proof."""

__version__ = "0.1.0"
