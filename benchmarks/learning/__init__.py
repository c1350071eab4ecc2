"""Measurements of what the network learns."""
