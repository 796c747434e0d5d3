#!/usr/bin/env bash
# Starts PostgreSQL with the settings that the upstream image takes: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB
# (or NAME_FILE), and scripts in /docker-entrypoint-initdb.d for a new cluster.
set -euo pipefail

setting() { # NAME DEFAULT
  local file="$1_FILE"
  if [ -n "${!file:-}" ]; then cat "${!file}"; else echo "${!1:-$2}"; fi
}

if [ "${1:-}" != postgres ]; then exec "$@"; fi

if [ "$(id -u)" = 0 ]; then
  user="$(setting POSTGRES_USER postgres)"
  password="$(setting POSTGRES_PASSWORD "")"
  database="$(setting POSTGRES_DB "$user")"
  install -d -o postgres -g postgres -m 0700 "$PGDATA"
  install -d -o postgres -g postgres -m 2775 /run/postgresql
  as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/postgresql)
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "$password" ]; then
      echo "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE is missing." >&2
      exit 1
    fi
    given=$(mktemp -p /run/postgresql)
    echo "$password" > "$given"
    chown postgres "$given"
    "${as_postgres[@]}" initdb --username="$user" --auth-local=trust --auth-host=scram-sha-256 \
      --pwfile="$given" >/dev/null
    rm "$given"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # Not reachable over the network while it is being filled.
    "${as_postgres[@]}" pg_ctl -w start -o "-c listen_addresses=''" >/dev/null
    export PGUSER="$user" PGHOST=/run/postgresql POSTGRES_USER="$user" POSTGRES_DB="$database"
    [ "$database" = postgres ] || psql -v ON_ERROR_STOP=1 -d postgres -c "CREATE DATABASE \"$database\"" >/dev/null
    for script in /docker-entrypoint-initdb.d/*; do
      case "$script" in
        *.sh) if [ -x "$script" ]; then PGDATABASE="$database" "$script"; else . "$script"; fi ;;
        *.sql) psql -v ON_ERROR_STOP=1 -d "$database" -f "$script" ;;
      esac
    done
    "${as_postgres[@]}" pg_ctl -w -m fast stop >/dev/null
  fi
  exec "${as_postgres[@]}" "$@" -c listen_addresses='*'
fi
exec "$@"
