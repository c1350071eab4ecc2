"""One thin module for each ``python -m resnet50 NAME``."""
