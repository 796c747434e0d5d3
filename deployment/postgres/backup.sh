#!/bin/sh
# Backs up each database whenever its newest backup is older than POSTGRES_BACKUP_HOURS, and keeps the last
# POSTGRES_BACKUP_KEEP of each; `backup.sh now` backs up all at once, and ends. A backup appears under its name only when
# it is complete. A failed one ends this script: the engine starts it again.
set -eu

folder=/backups
PGUSER=$(cat /run/secrets/postgres_user)
PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGUSER PGPASSWORD
umask 077
trap 'exit 0' TERM INT

back_up() {
  name=$folder/$1-$(date -u +%Y%m%dT%H%M%SZ).dump
  pg_dump --format custom --dbname "$1" --file "$name.part"
  pg_restore --list "$name.part" >/dev/null
  sync "$name.part" 2>/dev/null || sync
  mv "$name.part" "$name"
  echo "$name"
  # Names sort by time.
  ls "$folder/$1"-*.dump | sort -r | tail -n "+$((POSTGRES_BACKUP_KEEP + 1))" | xargs -r rm -f
}

if [ "${1:-}" = now ]; then
  for database in ledger prefect; do back_up "$database"; done
  exit
fi

rm -f "$folder"/*.part
while :; do
  for database in ledger prefect; do
    if [ -z "$(find "$folder" -name "$database-*.dump" -mmin "-$((POSTGRES_BACKUP_HOURS * 60))")" ]; then
      back_up "$database"
    fi
  done
  sleep 60 &
  wait $!
done
