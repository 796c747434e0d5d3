#!/bin/sh
# Healthy while the newest backup of each database is younger than its interval and an hour more; where none are made,
# always.
every=${POSTGRES_BACKUP_HOURS:-0}
[ "$every" -ne 0 ] || exit 0
for database in ledger prefect; do
  [ -n "$(find /backups -name "$database-*.dump" -mmin "-$((every * 60 + 60))")" ] || exit 1
done
