#!/bin/sh
# Run this checkout's migrator. Needs python3 (3.11 or newer) and nothing else.
#
#   scripts/migrate.sh [OPTIONS] [COMMAND] [ARGS]
#   scripts/migrate.sh --help
set -eu

checkout=$(dirname "$(dirname "$(readlink -f "$0")")")

if ! command -v python3 >/dev/null; then
    echo 'error: python3 is missing, expected 3.11 or newer; nothing was changed' >&2
    exit 1
fi

# What merely lies in the current directory must not run: python3 leaves that directory out, and the caller's
# PYTHONPATH, which may hold an empty entry, is not passed on. The checkout is no entry of it either, because
# a colon in its path would end the entry. An older python3 does not know the first rule and would break it,
# so its number is looked at before anything is imported from a file. The messages name this script as it was
# called. Ctrl-C during the imports needs no traceback, also during those that Python does before it runs
# anything (-S: https://docs.python.org/3/library/site.html), which are made up for.
unset PYTHONPATH
export PYTHONSAFEPATH=1
exec python3 -S -c '
import sys
if sys.version_info < (3, 11):
    sys.exit("error: python3 is %d.%d.%d, expected 3.11 or newer; nothing was changed" % sys.version_info[:3])
import _signal
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
import site
site.main()
sys.path.insert(0, sys.argv.pop(1))
del sys.argv[0]
import runpy
runpy.run_module("vmpilot.migrate", run_name="__main__")
' "$checkout" "$0" "$@"
