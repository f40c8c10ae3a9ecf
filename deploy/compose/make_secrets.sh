#!/bin/sh
# Makes the secrets of a compose mesh in deploy/compose/secrets/, each once: what is there stays as it is.
# The folder is for its owner alone. The files in it are readable, because the containers that mount them run under other numbers.
set -eu
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"

random() { head -c 32 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }
keep() { # keep NAME: standard input becomes the secret NAME, unless there is one
  [ -s "$folder/$1" ] && return
  cat > "$folder/$1.new"
  chmod 644 "$folder/$1.new"
  mv "$folder/$1.new" "$folder/$1"
  echo "made $folder/$1"
}

random | keep mesh_secret
random | keep key_pepper
random | keep postgres_password
printf 'postgresql://farthing:%s@postgres:5432/farthing' "$(cat "$folder/postgres_password")" | keep postgres_dsn
