#!/bin/sh
# install.sh FOLDER EXTRA...: a virtual environment in FOLDER with the project's dependencies and those of its extras,
# at the versions of requirements.lock and with its hashes. Run where pyproject.toml and requirements.lock are.
set -eu

target=$1
shift
here=$(dirname "$0")
work=$(mktemp -d)

python3 -m venv --without-pip "$target"
python3 "$here/pick.py" wanted "$@" >"$work/wanted.txt"
python3 "$here/pick.py" versions >"$work/versions.txt"
"$PIP" download --quiet --only-binary :all: --dest "$work/wheels" -c "$work/versions.txt" -r "$work/wanted.txt"
python3 "$here/pick.py" locked "$work/wheels" >"$work/locked.txt"
"$PIP" --python "$target/bin/python" install --quiet --no-index --find-links "$work/wheels" --no-deps --require-hashes \
  -r "$work/locked.txt"
"$PIP" --python "$target/bin/python" check
rm -rf "$work"
