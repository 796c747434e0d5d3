#!/bin/sh
# Starts Traefik with what its files name by environment variable. Secrets are read from files here: in the container's
# environment whoever may inspect containers would see them.
set -eu

refuse() {
  echo "$1" >&2
  exit 78
}

secret() {
  value=$(cat "/run/secrets/$1")
  case "$value" in
    '' | admin | password | changeme | secret)
      refuse "The secret $1 is empty or a well-known default. Put a secret into its file, or remove it and run make secrets."
      ;;
  esac
  printf '%s' "$value"
}

PREFECT_API_AUTH_STRING=$(secret prefect_api_auth_string)
DASHBOARD_USER=$(cat /run/secrets/dashboard_user)
DASHBOARD_PASSWORD=$(secret dashboard_password)
export PREFECT_API_AUTH_STRING DASHBOARD_USER DASHBOARD_PASSWORD

case "$AUTH_MIDDLEWARE" in
  '' | authentik) ;;
  *) refuse "AUTH_MIDDLEWARE is $AUTH_MIDDLEWARE; it must be authentik, or empty for a password." ;;
esac

exec traefik --configFile=/etc/archiver/traefik/traefik.yml
