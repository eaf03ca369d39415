#!/bin/sh
# Run the tests in .venv, which is made at the first run and again when pyproject.toml or python3 changes.
#
#   scripts/test.sh [--full] [PYTEST_ARGUMENT...]     paths are relative to the checkout
set -eu

cd "$(dirname "$(readlink -f "$0")")/.."
python=.venv/bin/python
stamp=.venv/made-for

# The stamp is written last, so a half-made .venv has none; the path is in it because a .venv cannot be moved.
wanted=$(pwd && python3 -c 'import sys; print(sys.base_prefix, sys.version)' && cat pyproject.toml)
if [ "$wanted" != "$(cat "$stamp" 2>/dev/null)" ] || ! "$python" -m pytest --version >/dev/null 2>&1; then
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        echo 'error: python3 cannot make a virtual environment; run: apt-get install python3-venv' >&2
        exit 1
    fi
    rm -rf .venv
    python3 -m venv .venv
    "$python" -m pip install --quiet --disable-pip-version-check --editable '.[test]'
    printf '%s\n' "$wanted" >"$stamp"
fi

exec "$python" -m pytest "$@"
