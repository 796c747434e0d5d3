#!/bin/sh
# Backs up each database whenever its newest backup is older than POSTGRES_BACKUP_HOURS, and keeps the last
# POSTGRES_BACKUP_KEEP of each; `backup.sh now` backs up all at once, and ends. A backup appears under its name only when
# it is complete. A failed one ends this script: the engine starts it again. The ledger is told how old the newest ones
# are: archiver doctor and the metrics look there.
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

# By the files that lie there, so that it is soon right again in a ledger that was restored.
note_in_ledger() {
  for database in ledger prefect; do
    newest=$(ls "$folder/$database"-*.dump 2>/dev/null | sort | tail -n 1)
    [ -n "$newest" ] || continue
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname ledger \
      --set service="backup of $database" --set made="$(stat -c %Y "$newest")" <<'SQL' || return 1
-- The API makes the tables when it starts for the first time.
SELECT to_regclass('services') IS NOT NULL AS there \gset
\if :there
INSERT INTO services AS known (service, beat_at) VALUES (:'service', to_timestamp(:made))
  ON CONFLICT (service) DO UPDATE SET beat_at = excluded.beat_at WHERE known.beat_at <> excluded.beat_at;
\endif
SQL
  done
}
tell_ledger() {
  note_in_ledger || echo "The ledger was not told how old the backups are; it is told again with the next look." >&2
}

if [ "${1:-}" = now ]; then
  for database in ledger prefect; do back_up "$database"; done
  tell_ledger
  exit
fi

rm -f "$folder"/*.part
while :; do
  tell_ledger
  for database in ledger prefect; do
    if [ -z "$(find "$folder" -name "$database-*.dump" -mmin "-$((POSTGRES_BACKUP_HOURS * 60))")" ]; then
      back_up "$database"
    fi
  done
  sleep 60 &
  wait $!
done
