#!/bin/sh
# install.sh FOLDER EXTRA...: a virtual environment in FOLDER with the project's dependencies and those of its extras,
# from what fetch.sh laid into /wheels, with the hashes of requirements.lock. With BESIDES=EXTRA, only what is needed
# besides that extra, to be laid over an environment that has it.
set -eu

target=$1
shift
here=$(dirname "$0")
work=$(mktemp -d)

needed() { # FOLDER EXTRA...
  folder=$1
  shift
  python3 "$here/pick.py" wanted "$@" >"$work/wanted.txt"
  "$PIP" download --quiet --no-index --find-links /wheels --only-binary :all: --dest "$folder" -r "$work/wanted.txt"
}

needed "$work/wheels" ${BESIDES:-} "$@"
if [ -n "${BESIDES:-}" ]; then
  needed "$work/there" "$BESIDES"
  for wheel in "$work/there"/*; do rm "$work/wheels/${wheel##*/}"; done
fi
python3 "$here/pick.py" locked "$work/wheels" >"$work/locked.txt"

python3 -m venv --without-pip "$target"
"$PIP" --python "$target/bin/python" install --quiet --no-index --find-links "$work/wheels" --no-deps --require-hashes \
  --no-compile -r "$work/locked.txt"
[ -n "${BESIDES:-}" ] || "$PIP" --python "$target/bin/python" check
# As pip does it, but on every core: some packages carry files that are for another Python.
"$target/bin/python" -m compileall -q -j 0 "$target/lib" >/dev/null || true
rm -rf "$work"
