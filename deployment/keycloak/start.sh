#!/bin/bash
# Keycloak for development: its realm names secrets as ${NAME}, which Keycloak fills in from its environment.
set -eu

KC_BOOTSTRAP_ADMIN_PASSWORD=$(cat /run/secrets/keycloak_admin_password)
IDP_PASSWORD=$(cat /run/secrets/idp_password)
IDP_CLIENT_SECRET=$(cat /run/secrets/idp_client_secret)
export KC_BOOTSTRAP_ADMIN_PASSWORD IDP_PASSWORD IDP_CLIENT_SECRET

exec /opt/keycloak/bin/kc.sh start-dev --import-realm
