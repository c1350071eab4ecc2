"""A week in an hour: both programs at the speed of an A100, restarted on the way.

    python -m tests.rehearsal

``__main__`` has the plan, ``trainer`` and ``device`` have the stand-in for the GPU,
``programs`` starts and samples the two programs, and ``report`` judges the records.
"""
