"""The state of a running pair of programs, again and again."""
