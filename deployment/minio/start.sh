#!/bin/sh
# MinIO falls back to minioadmin:minioadmin without a word when its credentials are empty.
set -eu

for name in MINIO_ROOT_USER MINIO_ROOT_PASSWORD; do
  file=$(printenv "${name}_FILE")
  value=$(cat "$file")
  case "$value" in
    '' | minioadmin)
      echo "$file is empty or holds a well-known default. Put a secret into it, or remove it and run make secrets." >&2
      exit 78
      ;;
  esac
  # MinIO takes the file as it is, with the newline that `echo` leaves at its end.
  export "$name=$value"
  unset "${name}_FILE"
done

exec minio server --address :9000 --console-address 127.0.0.1:9001 /data
