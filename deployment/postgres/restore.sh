#!/bin/sh
# restore.sh DATABASE [FILE]: puts a backup (the newest without FILE) in the place of the database, all or nothing.
# Stop what uses the database first: docs/how-to/deploy-on-a-vm.md.
set -eu

database=$1
file=${2:-$(ls /backups/"$database"-*.dump 2>/dev/null | sort | tail -n 1)}
[ -n "$file" ] || { echo "There is no backup of $database in /backups." >&2; exit 1; }
case "$file" in */*) ;; *) file=/backups/$file ;; esac
pg_restore --list "$file" >/dev/null

PGUSER=$(cat /run/secrets/postgres_user)
PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGUSER PGPASSWORD

others=$(psql --no-psqlrc --tuples-only --no-align --dbname postgres --set database="$database" <<'SQL'
SELECT count(*) FROM pg_stat_activity WHERE datname = :'database';
SQL
)
[ "$others" = 0 ] || { echo "$others connections use $database. Stop the services that use it first." >&2; exit 1; }

# Into a database of its own, which takes the old one's place once it is complete. The old one is kept.
now=$(date -u +%Y%m%dT%H%M%SZ)
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname postgres --set name="$database" --set new="$database-restored" <<'SQL'
DROP DATABASE IF EXISTS :"new";
CREATE DATABASE :"new" OWNER :"name" TEMPLATE template0;
SQL
pg_restore --exit-on-error --single-transaction --dbname "$database-restored" "$file"
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname postgres \
  --set name="$database" --set new="$database-restored" --set old="$database-until-$now" <<'SQL'
BEGIN;
ALTER DATABASE :"name" RENAME TO :"old";
ALTER DATABASE :"new" RENAME TO :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
COMMIT;
SQL
echo "$database is that of $file. The one before is kept as $database-until-$now."
