#!/bin/bash
# Kernel settings of an instance that serves many clients.
#
# The private ports of releases are not reserved here: the agent reserves them at boot, and does
# not give a release a port that was in ip_local_reserved_ports before.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

# Loaded before systemd-sysctl runs, which could not set the limit otherwise.
write_file /etc/modules-load.d/deploy-image.conf <<<'nf_conntrack'
# A quarter of nf_conntrack_max, so that a bucket of the table has few entries.
write_file /etc/modprobe.d/deploy-image.conf <<<'options nf_conntrack hashsize=65536'
changed=$(write_file /etc/sysctl.d/60-deploy-image.conf <<'END'
# Each connection through the port map is tracked; a full table drops new ones. An entry takes
# about 320 bytes when it is in use. A file that comes later, such as 90-conntrack.conf, wins.
net.netfilter.nf_conntrack_max = 262144

# Connections that wait for accept(2), for apps that ask for as many.
net.core.somaxconn = 4096

# Watches of files, which dev servers and log shippers use.
fs.inotify.max_user_instances = 1024

# An instance whose kernel panicked reboots, and is replaced if it does not come back.
kernel.panic = 10
END
)
if [ -n "$changed" ]; then
    echo "$changed"
    if running; then
        modprobe nf_conntrack || echo 'nf_conntrack is loaded at the next boot'
        sysctl --quiet --load=/etc/sysctl.d/60-deploy-image.conf ||
            echo 'the kernel settings apply from the next boot on'
    fi
fi
