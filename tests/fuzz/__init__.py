"""Untrusted input, by the thousand: see ``tests.fuzz.__main__``."""
