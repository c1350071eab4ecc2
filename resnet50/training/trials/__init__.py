"""Trials of a card, each for a process of its own, for ``doctor --gpu-report``.

    python -m resnet50.training.trials NAME JSON

NAME is a function of ``TRIALS`` in ``__main__``, JSON has its arguments. The last line
of stdout is its result as JSON. ``checks.gpu_report`` starts and judges the trials.
"""
