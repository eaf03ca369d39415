#!/bin/sh
# Run the tests in .venv, which is made at the first run and again when python3 or what the tests need changes.
#
#   scripts/test.sh [--full] [PYTEST_ARGUMENT...]     paths are relative to the checkout
set -eu

cd "$(dirname "$(readlink -f "$0")")/.."
python=.venv/bin/python
stamp=.venv/made-for

fail() {
    echo "error: $1" >&2
    exit 1
}
command -v python3 >/dev/null || fail 'python3 is missing, expected 3.11 or newer'

# A virtual environment does not go together with a colon; and the caller's PYTHONPATH not with what is in it.
case $(pwd -P) in
    *:*) fail "$(pwd -P) has a colon, and python3 makes no virtual environment below it; move the checkout" ;;
esac
unset PYTHONPATH

# What .venv is made for: a path, because it cannot be moved; a python3; and from the third line on, requirements.
wanted=$(pwd -P && python3 -c '
import sys
if sys.version_info < (3, 11):
    sys.exit("error: python3 is %d.%d.%d, expected 3.11 or newer" % sys.version_info[:3])
import tomllib
with open("pyproject.toml", "rb") as file:
    requirements = tomllib.load(file)["project"]["optional-dependencies"]["test"]
print(sys.base_prefix, sys.version.replace("\n", " "))
print(*requirements, sep="\n")
')

# The stamp is written last, so a half-made .venv has none.
if [ "$wanted" != "$(cat "$stamp" 2>/dev/null)" ] || ! "$python" -m pytest --version >/dev/null 2>&1; then
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        fail 'python3 cannot make a virtual environment; run: apt-get install python3-venv'
    rm -rf .venv
    python3 -m venv .venv
    printf '%s\n' "$wanted" | sed 1,2d >.venv/requirements.txt
    "$python" -m pip install --quiet --disable-pip-version-check --requirement .venv/requirements.txt ||
        fail 'pip could not install what the tests need; the first run needs the network'
    printf '%s\n' "$wanted" >"$stamp"
fi

exec "$python" -m pytest --halves "$@"
