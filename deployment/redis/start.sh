#!/bin/sh
# Redis with its password, which no list of processes shows: the configuration comes from standard input.
# What it knows survives a restart: places under limits are kept there.
set -eu

password=$(cat /run/secrets/redis_password)
[ -n "$password" ] || { echo "redispass.txt is empty. Remove it and run make secrets." >&2; exit 78; }
printf 'bind * -::*\nport 6379\ndir /data\nappendonly yes\nsave ""\nrequirepass %s\n' "$password" | exec redis-server -
