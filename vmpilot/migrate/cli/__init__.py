"""The command line: arguments in; text, JSON and exit code out.

The only place that prints; what a command means is decided in the rooms below.
"""
