#!/bin/sh
# Installs what members need from others, as the locks say: install_locked.sh ./libs/kit ./services/classifier[cpu]
# uv chooses names and versions within the locks; what is installed are the locks' own lines, with their hashes. A package that
# they lack is not installed: `uv pip check` finds it missing at the end. requirements-gpu.lock holds what GPUs need besides.
set -eu
cat requirements.lock requirements-gpu.lock > lock.txt
printf '%s\n' "$@" > members.txt
uv pip compile --quiet --no-header --no-annotate --constraint lock.txt members.txt > chosen.txt
awk 'NR == FNR {chosen[$1]; next} /^[^ ]/ {wanted = $1 in chosen} wanted' chosen.txt lock.txt > third-party.txt
uv pip install --quiet --compile-bytecode --require-hashes --no-deps --requirement third-party.txt
