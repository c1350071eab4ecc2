"""Measurements of what the network learns; see ``__main__``."""
