#!/bin/sh
# Healthy while the newest backup of each database is younger than its interval and an hour more.
for database in ledger prefect; do
  [ -n "$(find /backups -name "$database-*.dump" -mmin "-$((POSTGRES_BACKUP_HOURS * 60 + 60))")" ] || exit 1
done
