#!/bin/sh
# Installs what members need from others, as requirements.lock says: install_locked.sh ./libs/kit ./services/classifier[cpu]
# uv chooses names and versions within the lock; what is installed are the lock's own lines, with their hashes. A package that
# the lock lacks is not installed: `uv pip check` finds it missing at the end.
set -eu
printf '%s\n' "$@" > members.txt
uv pip compile --quiet --no-header --no-annotate --constraint requirements.lock members.txt > chosen.txt
awk 'NR == FNR {chosen[$1]; next} /^[^ ]/ {wanted = $1 in chosen} wanted' chosen.txt requirements.lock > third-party.txt
uv pip install --quiet --compile-bytecode --require-hashes --no-deps --requirement third-party.txt
