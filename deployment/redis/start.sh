#!/bin/sh
# Redis with its password, which no list of processes shows: the configuration comes from standard input.
# What it knows survives a restart: places under limits are kept there.
set -eu

password=$(cat /run/secrets/redis_password)
[ -n "$password" ] || { echo "redispass.txt is empty. Remove it and run make secrets." >&2; exit 78; }
# In the place of this shell: as its child it would never learn that the container is told to stop.
exec redis-server - <<EOF
bind * -::*
port 6379
dir /data
appendonly yes
save ""
requirepass $password
EOF
