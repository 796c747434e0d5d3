#!/bin/sh
# Start Prometheus, with remote write to an outside one where REMOTE_WRITE_URL names it.
#
# Settings: REMOTE_WRITE_URL; REMOTE_WRITE_USERNAME with REMOTE_WRITE_PASSWORD_FILE, or REMOTE_WRITE_BEARER_TOKEN_FILE;
# REMOTE_WRITE_CA_FILE for a private CA; REMOTE_WRITE_CERT_FILE and REMOTE_WRITE_KEY_FILE for a client certificate.
# Arguments go to Prometheus. With CHECK=1 the configuration is only written and checked.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
config=${PROMETHEUS_CONFIG:-/tmp/prometheus.yml}

{
  # The rules lie beside this script, the written configuration does not.
  sed "s|^rule_files:.*|rule_files: [\"$here/alerts.yml\"]|" "${PROMETHEUS_BASE:-$here/prometheus.yml}"
  if [ -n "${REMOTE_WRITE_URL:-}" ]; then
    case $REMOTE_WRITE_URL in
      https://*) ;;
      *) [ -z "${REMOTE_WRITE_PASSWORD_FILE:-}${REMOTE_WRITE_BEARER_TOKEN_FILE:-}" ] || {
           echo "REMOTE_WRITE_URL is not https: a credential would go out in clear. Use https." >&2; exit 2; } ;;
    esac
    printf 'remote_write:\n  - url: "%s"\n' "$REMOTE_WRITE_URL"
    if [ -n "${REMOTE_WRITE_BEARER_TOKEN_FILE:-}" ]; then
      printf '    authorization:\n      credentials_file: "%s"\n' "$REMOTE_WRITE_BEARER_TOKEN_FILE"
    elif [ -n "${REMOTE_WRITE_USERNAME:-}" ]; then
      printf '    basic_auth:\n      username: "%s"\n      password_file: "%s"\n' \
        "$REMOTE_WRITE_USERNAME" "$REMOTE_WRITE_PASSWORD_FILE"
    fi
    if [ -n "${REMOTE_WRITE_CA_FILE:-}${REMOTE_WRITE_CERT_FILE:-}" ]; then
      printf '    tls_config:\n'
      [ -z "${REMOTE_WRITE_CA_FILE:-}" ] || printf '      ca_file: "%s"\n' "$REMOTE_WRITE_CA_FILE"
      [ -z "${REMOTE_WRITE_CERT_FILE:-}" ] || printf '      cert_file: "%s"\n      key_file: "%s"\n' \
        "$REMOTE_WRITE_CERT_FILE" "$REMOTE_WRITE_KEY_FILE"
    fi
  fi
} >"$config"

[ -z "${CHECK:-}" ] || exec promtool check config "$config"
exec prometheus --config.file="$config" "$@"
