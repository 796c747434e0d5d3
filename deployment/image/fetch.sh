#!/bin/sh
# fetch.sh FOLDER EXTRA...: the wheels of the project's dependencies and those of its extras into FOLDER, at the versions
# of requirements.lock. install.sh checks their hashes.
set -eu

folder=$1
shift
here=$(dirname "$0")
work=$(mktemp -d)

python3 "$here/pick.py" wanted "$@" >"$work/wanted.txt"
python3 "$here/pick.py" versions >"$work/versions.txt"
"$PIP" download --quiet --only-binary :all: --dest "$folder" -c "$work/versions.txt" -r "$work/wanted.txt"
rm -rf "$work"
