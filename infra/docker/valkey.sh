#!/bin/sh
# Starts the server with a user for each process (infra/redis/users.acl), their passwords from the
# environment, and what makes it durable (infra/redis/disk.conf).
#
#     valkey.sh USERS.ACL DISK.CONF FOLDER [OPTION …]
#
# FOLDER is for the users with their passwords, and readable by the server alone.
set -eu
umask 077
users=$1 conf=$2 folder=$3
shift 3
sed -e "s/^user operator on/& >$FOREBAY_OPERATOR_PASSWORD/" \
    -e "s/^user forebay-gateway on/& >$FOREBAY_GATEWAY_PASSWORD/" \
    -e "s/^user forebay-pipeline on/& >$FOREBAY_WORKER_PASSWORD/" \
    -e "s/^user forebay-background on/& >$FOREBAY_BACKGROUND_PASSWORD/" \
    -e "/^user forebay-\(worker\|autoscaler\) /d" \
    "$users" > "$folder/users.acl"
exec valkey-server "$conf" --aclfile "$folder/users.acl" "$@"
