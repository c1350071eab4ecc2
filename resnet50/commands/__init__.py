"""The programs: each reads its flags and config.txt and puts the rooms together.

One module for each ``python -m resnet50 NAME``, and one for each of the two scripts.
"""
