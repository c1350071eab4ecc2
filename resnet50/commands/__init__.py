"""The programs: each reads its flags and config.txt and puts the rooms together.

One module for each ``python -m resnet50 NAME``, one for each of the three scripts in
the project's folder, and a few that these programs share.
"""
