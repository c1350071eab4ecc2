"""The programs: each reads its flags and config.txt and calls the rooms.

There is one module for each ``python -m resnet50 NAME``, one for each of the three
scripts in the project's folder, and a few that these programs share.
"""
