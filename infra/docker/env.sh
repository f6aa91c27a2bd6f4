#!/bin/sh
# Prints what docker-compose.yml needs from .env: a password for each of Redis' users.
#
#     (umask 077 && sh infra/docker/env.sh > .env)
set -eu
for name in GATEWAY WORKER BACKGROUND OPERATOR; do
  printf 'FOREBAY_%s_PASSWORD=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done
printf 'GRAFANA_PASSWORD=%s\n' "$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')"
