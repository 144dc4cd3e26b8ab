#!/bin/sh -eu
# Runs a Python program with the packages that requirements.txt pins, in a virtual environment
# below target/ that is made at first use:
#
#     tests/aws/run.sh tests/aws/serve.py --api 127.0.0.1:8080
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
pinned=$(sha256sum "$here/requirements.txt" | cut -c 1-16)
environment=$target/aws/$pinned

if [ ! -e "$environment/complete" ]; then
    mkdir -p "$target/aws"
    exec 9>"$target/aws/lock"
    flock 9
    if [ ! -e "$environment/complete" ]; then
        python3 -m venv --clear "$environment"
        "$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
            --only-binary=:all: --requirement "$here/requirements.txt" >&2
        touch "$environment/complete"
    fi
    exec 9>&-
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$environment/bin/python" "$@"
