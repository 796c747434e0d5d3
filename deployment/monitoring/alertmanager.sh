#!/bin/sh
# Starts Alertmanager: alerts go to the address in the secret alert_url, as JSON (a webhook). Where it is empty, they can
# be seen in Grafana alone.
set -eu

config=${ALERTMANAGER_CONFIG:-/tmp/alertmanager.yml}
{
  cat <<'YAML'
route:
  receiver: operators
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 12h
receivers:
  - name: operators
YAML
  if [ -n "$(cat /run/secrets/alert_url)" ]; then
    # Named, not written here: whoever knows the address may often post to it.
    printf '    webhook_configs:\n      - url_file: /run/secrets/alert_url\n        send_resolved: true\n'
  fi
} >"$config"
# Alone: it looks for no others of its kind.
exec alertmanager --config.file="$config" --cluster.listen-address= "$@"
