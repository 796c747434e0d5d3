#!/bin/sh
# Prefect takes its credentials from its environment only. The container's environment can be read by whoever may
# inspect containers, so it names files, and only the process itself gets their contents.
set -eu

refuse() {
  echo "$1" >&2
  exit 78
}

for name in PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING \
  PREFECT_SERVER_DATABASE_USER PREFECT_SERVER_DATABASE_PASSWORD \
  PREFECT_REDIS_MESSAGING_URL PREFECT_SERVER_DOCKET_URL; do
  file=$(printenv "${name}_FILE" || true)
  [ -n "$file" ] || continue
  [ -r "$file" ] || refuse "${name}_FILE names $file, which cannot be read by user $(id -u). Run make secrets as root."
  value=$(cat "$file")
  case "$value" in
    '') refuse "$file is empty. Put a secret into it, or remove it and run make secrets." ;;
    admin | password | changeme | secret | prefect | postgres | admin:admin | admin:password | prefect:prefect)
      [ "${ENVIRONMENT:-prod}" = development ] ||
        refuse "$file holds a well-known default. Put a secret into it, or remove it and run make secrets." ;;
  esac
  export "$name=$value"
done

exec "$@"
