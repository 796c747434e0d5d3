#!/bin/sh
# Makes the secrets that are ours to choose and are missing, in .secrets/, mode 0600; none is ever overwritten.
# Those that others give us (SciCat, Keycloak, an outside landing storage, a registry) are named if they are missing;
# in development they are made too, because there the others are simulators.
set -eu
umask 077

folder=.secrets
environment=${1:-prod}
own_storage=$(sed -n 's/^COMPOSE_PROFILES=.*minio.*/yes/p' .env)
[ "$environment" != development ] || own_storage=yes
mkdir -p "$folder"
chmod 0711 "$folder"

write() {
  # Never over an existing file, not even one that appears meanwhile.
  [ -e "$folder/$1" ] || { (set -C; printf '%s\n' "$2" >"$folder/$1") && echo "made     $folder/$1"; }
}
random() { openssl rand -base64 24 | tr '+/' '-_'; }

write postgresuser.txt archiver
write postgrespass.txt "$(random)"
write prefectdbpass.txt "$(random)"
write ledgerpass.txt "$(random)"
write ledgerurl.txt "postgresql+psycopg://ledger:$(cat "$folder/ledgerpass.txt")@postgres:5432/ledger"
write prefectauth.txt "archiver:$(random)"
write redispass.txt "$(random)"
write redisurl.txt "redis://:$(cat "$folder/redispass.txt")@redis:6379/0"
write dashboarduser.txt operator
write dashboardpass.txt "$(random)"
write uploadedgekey.txt "$(random)"
write metricstoken.txt "$(random)"
write metricsuser.txt prometheus
write metricspass.txt "$(random)"
write jobsusername.txt scicat
write jobspassword.txt "$(random)"
write miniouser.txt archiver-root
write miniopass.txt "$(random)"
write keycloakadminpass.txt "$(random)"
write scicatingestorpass.txt "$(random)"
# Empty: images come from a public registry, and operators are told nothing by mail or chat, and alerts
# go nowhere.
for file in githubuser.txt githubpass.txt notifyurls.txt alerturl.txt; do
  [ -e "$folder/$file" ] || { : >"$folder/$file"; echo "made     $folder/$file (empty)"; }
done
if [ -n "$own_storage" ]; then
  write s3apiuser.txt archiver-api
  write s3apipass.txt "$(random)"
  write s3flowsuser.txt archiver-flows
  write s3flowspass.txt "$(random)"
else
  for file in s3apiuser.txt s3apipass.txt s3flowsuser.txt s3flowspass.txt; do
    [ -e "$folder/$file" ] || echo "missing  $folder/$file: put there what the operators of the landing storage gave you"
  done
fi
if [ "$environment" = development ]; then
  write scicatuser.txt archiveManager
  write scicatpass.txt "$(random)"
  write idppassword.txt "$(random)"
  write idpclientsecret.txt "$(random)"
else
  for file in scicatuser_prod.txt scicatpass_prod.txt idppassword_prod.txt idpclientsecret_prod.txt; do
    [ -e "$folder/$file" ] || echo "missing  $folder/$file: put there what the operators of SciCat and Keycloak gave you"
  done
fi

chmod 0600 "$folder"/*
owner=$(sed -n 's/^LTS_USER_ID=//p' .env):$(sed -n 's/^LTS_GROUP_ID=//p' .env)
if [ "$(id -u)" = 0 ]; then
  # The services run as this user, and see the files as they are here.
  chown "$owner" "$folder"/*
  # But this one is read by Compose itself, for whoever runs it.
  token=$folder/authentik_token.env
  [ ! -e "$token" ] || chown "${SUDO_UID:-0}:${SUDO_GID:-0}" "$token"
elif [ "$(id -u)" != "${owner%:*}" ]; then
  echo "The services run as user ${owner%:*} and cannot read these files yet: sudo chown $owner $folder/*"
fi
