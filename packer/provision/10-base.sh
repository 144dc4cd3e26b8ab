#!/bin/bash
# Base packages, locale, time zone and time synchronization.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

refresh_packages
# nftables moves the traffic; zstd, tar and unzip are for builds of apps.
# On Amazon Linux, curl would conflict with the curl-minimal that is there.
install_packages ca-certificates chrony jq nftables tar unzip zstd
if [ "$FAMILY" = apt ]; then
    install_packages curl
fi

# C.UTF-8 needs no locale to be generated.
if [ "$FAMILY" = apt ]; then
    write_file /etc/default/locale <<<'LANG=C.UTF-8'
else
    write_file /etc/locale.conf <<<'LANG=C.UTF-8'
fi
ln --symbolic --force --no-dereference /usr/share/zoneinfo/Etc/UTC /etc/localtime

# The clock of the hypervisor, which needs no route to the internet. Amazon Linux has it already.
if [ "$FAMILY" = apt ]; then
    write_file /etc/chrony/sources.d/amazon.sources <<'END'
server 169.254.169.123 prefer iburst minpoll 4 maxpoll 4
END
    enable_unit chrony.service
else
    enable_unit chronyd.service
fi
