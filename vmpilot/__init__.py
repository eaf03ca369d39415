"""VMPilot's database: its schema, and the migrator that keeps it."""

import sys

__version__ = "0.7.0"

if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].removeprefix("-m") == "vmpilot.migrate":
    # This is the process of that command, and Python looks for its module: until there is something to stop,
    # Ctrl-C ends it at once, without a traceback of the imports. https://docs.python.org/3/library/sys.html#sys.argv
    import _signal  # type: ignore[import-not-found]  # what `signal` adds to it takes long, see migrate.__main__

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
