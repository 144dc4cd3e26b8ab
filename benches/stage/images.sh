#!/bin/sh -eu
# Installs podman, and the registry that its images come from. On a suite that
# lacks one of them, the benchmark has no row of an image pull.

export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
if apt-cache show podman >/dev/null && apt-cache show docker-registry >/dev/null; then
    apt-get install --quiet --yes --no-install-recommends crun docker-registry podman
    # A podman that starts at boot finds its storage on the overlay of the root, and keeps the
    # result of its check in /run: no whiteouts, and so no overlays.
    systemctl --root=/ list-unit-files --no-legend 'podman*' docker-registry.service |
        cut -d ' ' -f 1 | xargs systemctl disable
fi
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
