#!/bin/sh
# Backs up each database whenever its newest backup is older than POSTGRES_BACKUP_HOURS, and keeps the last
# POSTGRES_BACKUP_KEEP of each; `backup.sh now` backs up all at once, and ends. With POSTGRES_BACKUP_HOURS=0 backups are
# somebody else's to make: only `now` makes one, and only `now` removes older ones. A backup appears under its name only
# when it is complete. A failed one keeps no other from being made, and ends this script then: the engine starts it
# again. The ledger is told how old the newest ones are: archiver doctor and the metrics look there.
set -eu

folder=/backups
every=${POSTGRES_BACKUP_HOURS:-0}
case "$every" in
  *[!0-9]* | 0?*)
    echo "POSTGRES_BACKUP_HOURS is $every. Set it to a whole number of hours, or to 0 for no backups." >&2
    exit 78
    ;;
esac
# With less than one, the backup that was just made would be removed.
case "$POSTGRES_BACKUP_KEEP" in
  '' | *[!0-9]* | 0*)
    echo "POSTGRES_BACKUP_KEEP is '$POSTGRES_BACKUP_KEEP'. Set it to how many to keep of each database, 1 or more." >&2
    exit 78
    ;;
esac
PGUSER=$(cat /run/secrets/postgres_user)
PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGUSER PGPASSWORD
export PGCONNECT_TIMEOUT=30
umask 077
trap 'exit 0' TERM INT

# Its steps are joined: where a caller goes on after a failure, `set -e` holds for none of them.
back_up() {
  name=$folder/$1-$(date -u +%Y%m%dT%H%M%SZ).dump
  pg_dump --format custom --lock-wait-timeout 10min --dbname "$1" --file "$name.part" &&
    pg_restore --list "$name.part" >/dev/null &&
    { sync "$name.part" 2>/dev/null || sync; } &&
    mv "$name.part" "$name" &&
    { sync "$folder" 2>/dev/null || sync; } &&
    echo "$name" &&
    # Names sort by time.
    ls "$folder/$1"-*.dump | sort -r | tail -n "+$((POSTGRES_BACKUP_KEEP + 1))" | xargs -r rm -f
}

# By the files that lie there, so that it is soon right again in a ledger that was restored.
note_in_ledger() {
  for database in ledger prefect; do
    newest=$(ls "$folder/$database"-*.dump 2>/dev/null | sort | tail -n 1)
    [ -n "$newest" ] || continue
    # It runs before the backups that are due, so a ledger that is locked or hangs must not hold it for ever.
    PGOPTIONS='-c statement_timeout=30s' timeout 60 psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname ledger \
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

failed=
if [ "${1:-}" = now ]; then
  for database in ledger prefect; do back_up "$database" || failed=yes; done
  tell_ledger
  [ -z "$failed" ] || exit 1
  exit
fi

rm -f "$folder"/*.part
if [ "$every" -eq 0 ]; then
  echo "POSTGRES_BACKUP_HOURS is 0: no backups are made here."
  while :; do
    sleep 60 &
    wait $!
  done
fi
while :; do
  tell_ledger
  for database in ledger prefect; do
    if [ -z "$(find "$folder" -name "$database-*.dump" -mmin "-$((every * 60))")" ]; then
      back_up "$database" || failed=yes
    fi
  done
  [ -z "$failed" ] || exit 1
  sleep 60 &
  wait $!
done
