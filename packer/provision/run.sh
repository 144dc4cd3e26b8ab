#!/bin/bash
# Provisions this machine as an image of instances: runs the steps of this directory in their
# order, as root. A second run changes nothing. Debian 12, Ubuntu 24.04, Amazon Linux 2023.
#
#   FRAMEWORKS  the runtimes to install, separated by spaces or commas: node, ruby, python,
#               java; "none" or empty for none
#   PACKAGES    a directory with packages to install: the agent's, and others such as the SSM
#               agent's; files of another format or architecture are skipped
#   RELEASE     the URL of a release to stage in the image, or empty
#   STEPS       the steps to run, such as "20-journal 40-packages"; all of them if empty
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
    echo 'run.sh: must run as root' >&2
    exit 1
fi
# The modes of the files that are created must not depend on the caller.
umask 022
export LC_ALL=C.UTF-8
export DEBIAN_FRONTEND=noninteractive
export FRAMEWORKS="${FRAMEWORKS:-}" PACKAGES="${PACKAGES:-}" RELEASE="${RELEASE:-}"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for step in "$here"/[0-9]*.sh; do
    name=$(basename "$step" .sh)
    if [ -n "${STEPS:-}" ] && [[ " $STEPS " != *" $name "* ]]; then
        continue
    fi
    echo "== $name"
    bash "$step"
done
