#!/bin/sh -eu
# Installs the packages for building and testing on Debian 12, except Rust itself, and those that
# the arguments name. Does nothing, and needs no network and no root, if all of them are installed.

packages='
    dpkg-dev
    e2fsprogs
    gcc
    git
    iproute2
    libc6-dev
    lintian
    make
    mmdebstrap
    mount
    nftables
    openssh-client
    python3-venv
    rpm
    rpmlint
    systemd
    systemd-container
    util-linux
'

missing=
for package in $packages "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing:$missing; as root: apt-get install$missing" >&2
        exit 1
    fi
    echo "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet
    # shellcheck disable=SC2086 # a list of words
    apt-get install --quiet --yes --no-install-recommends $missing
fi

if ! command -v cargo >/dev/null; then
    echo 'missing: cargo, which https://rustup.rs installs' >&2
    exit 1
fi
for component in clippy rustfmt; do
    case $component in
        clippy) cargo clippy --version ;;
        rustfmt) cargo fmt --version ;;
    esac >/dev/null 2>&1 || rustup component add "$component"
done
