#!/bin/bash
# Tools for the one who looks at a slow instance, and a record of the hours before: sysstat and
# atop write one every ten minutes.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

case $ID in
    debian) names=(linux-perf procps) ;;
    ubuntu) names=(linux-tools-common linux-tools-aws procps) ;;
    *) names=(perf procps-ng) ;;
esac
install_available "${names[@]}" \
    atop bpftrace htop iotop jq lsof nethogs psmisc strace sysstat tcpdump

if [ -e /etc/default/sysstat ]; then
    # The defaults of Debian collect nothing.
    sed --in-place 's/^ENABLED=.*/ENABLED="true"/' /etc/default/sysstat
fi
enable_unit sysstat.service
enable_unit sysstat-collect.timer
enable_unit sysstat-summary.timer

if [ -e /etc/default/atop ]; then
    # One week instead of four; a day is up to 100 MB on a busy instance.
    sed --in-place 's/^LOGGENERATIONS=.*/LOGGENERATIONS=7/' /etc/default/atop
fi
if [ "$FAMILY" = apt ]; then
    # Process accounting, by which atop shows processes that have ended, fails in containers.
    write_file /etc/systemd/system/atopacct.service.d/deploy-image.conf <<'END'
[Unit]
ConditionVirtualization=!container
END
fi
enable_unit atop.service
