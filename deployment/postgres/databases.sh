#!/bin/sh
# Two databases, each with a role of its own that owns it and may enter no other. Run at every start: what is there
# stays, and passwords become those of the secret files.
set -eu

secret() {
  value=$(cat "/run/secrets/$1")
  case "$value" in
    '' | postgres | password | changeme | secret | admin)
      echo "The secret $1 is empty or a well-known default. Put a secret into its file, or remove it and run make secrets." >&2
      exit 78
      ;;
  esac
  printf '%s' "$value"
}

PGUSER=$(cat /run/secrets/postgres_user)
PGPASSWORD=$(secret postgres_password)
prefect_password=$(secret prefect_database_password)
ledger_password=$(secret ledger_database_password)
export PGUSER PGPASSWORD PGDATABASE=postgres

# Passwords go in by standard input: arguments can be read by every process of the host.
make_database() {
  psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<SQL
\set name '$1'
\set password \`printf '%s' "\$ROLE_PASSWORD"\`
SELECT format('CREATE ROLE %I LOGIN', :'name')
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
}

ROLE_PASSWORD=$prefect_password make_database prefect
ROLE_PASSWORD=$ledger_password make_database ledger
echo "The databases prefect and ledger are as they shall be."
