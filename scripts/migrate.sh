#!/bin/sh
# Run this checkout's migrator. Needs python3 (3.11 or newer) and nothing else.
#
#   scripts/migrate.sh [OPTIONS] [COMMAND] [ARGS]
#   scripts/migrate.sh --help
set -eu

checkout=$(dirname "$(dirname "$(readlink -f "$0")")")

# The checkout alone: the caller's PYTHONPATH may hold an empty entry, which is the current directory.
# -P keeps that directory out for the same reason: what merely lies there must not run.
export PYTHONPATH="$checkout"
exec python3 -P -m vmpilot.migrate "$@"
