#!/bin/sh
# Bring the database to this release's schema, then become the application.
#
#   scripts/docker-entrypoint.sh [CMD [ARG...]]
#
#   VMPILOT_MIGRATE=on      upgrade to head; so it is when the variable is unset
#   VMPILOT_MIGRATE=follow  upgrade, or downgrade when a newer release left the database ahead of this one
#   VMPILOT_MIGRATE=off     leave the database alone
#
# CMD starts only after a migration that succeeded; otherwise the migrator's exit code is the script's.
# VMPILOT_DATABASE, VMPILOT_MIGRATIONS, VMPILOT_MIGRATE_BACKUP (1 or 0; unset: only before going down) and
# VMPILOT_MIGRATE_TIMEOUT (seconds) are read by the migrator itself.
set -eu

scripts=$(dirname "$(readlink -f "$0")")

# In the background, because a shell acts on a signal only between two commands or during `wait`.
# Standard output belongs to CMD.
migrate() {
    sh "$scripts/migrate.sh" "$@" >&2 &
    wait "$!"
}

# INT goes on as TERM: a background process starts with INT ignored, and would miss it until it has set up.
# One signal is enough: the migrator is on its way out. `$!` is unset before the first migration.
stop() {
    trap '' INT TERM
    if [ -n "${!-}" ]; then
        kill -TERM "$!" 2>/dev/null || :
        wait "$!" || :
    fi
    exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM

case ${VMPILOT_MIGRATE:-on} in
    on) migrate upgrade head ;;
    off) ;;
    follow) migrate upgrade head --follow ;;
    *)
        echo "error: VMPILOT_MIGRATE is '$VMPILOT_MIGRATE', expected on, off or follow; nothing was changed" >&2
        exit 2
        ;;
esac

exec "$@"
