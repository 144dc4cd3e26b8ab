#!/bin/bash
# The SSM agent: a part of Amazon Linux and, as a snap, of Ubuntu. Debian has no package of it:
# put Amazon's into the directory PACKAGES.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

if [ "$FAMILY" = dnf ]; then
    install_packages amazon-ssm-agent
elif [ "$ID" = ubuntu ] && command -v snap >/dev/null && running; then
    if ! snap list amazon-ssm-agent >/dev/null 2>&1; then
        snap install amazon-ssm-agent --classic
    fi
    enable_unit snap.amazon-ssm-agent.amazon-ssm-agent.service
    exit
fi
enable_unit amazon-ssm-agent.service
