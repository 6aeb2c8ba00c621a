"""A network rewritten for speed: see ``build``."""
