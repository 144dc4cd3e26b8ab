#!/bin/bash
# Leaves nothing in the image that belongs to this one machine: keys, ids, leases, logs.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

# Programs that would write more logs until the machine is off. They are enabled, and so start
# with the next boot.
if running; then
    for unit in atop.service collectd.service deployd-syslog.service sysstat-collect.timer \
        syslog.socket rsyslog.service unattended-upgrades.service; do
        systemctl stop "$unit" 2>/dev/null || true
    done
    # The journal goes on in memory.
    journalctl --relinquish-var
fi
find /var/log -mindepth 1 -type f -delete
find /var/log/journal -mindepth 1 -delete
# The configuration of the log forwarding and its place in the journal.
rm -rf /var/lib/deploy/syslog /var/lib/private/deployd-syslog

if command -v cloud-init >/dev/null; then
    cloud-init clean --logs
    # Written by cloud-init: the name of this machine, by which an instance would log and count
    # until cloud-init gives it its own.
    rm -f /etc/hostname
fi
# cloud-init makes host keys at the first boot of an instance.
rm -f /etc/ssh/ssh_host_*
find /root /home -maxdepth 3 -path '*/.ssh/authorized_keys' -delete
find /root /home -maxdepth 2 -name '.*_history' -delete

# An empty file, not a missing one: the next boot writes the new id here, and does not count as
# the first boot of a distribution, at which systemd enables and disables units by its presets.
: >/etc/machine-id
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then
    ln --symbolic --force /etc/machine-id /var/lib/dbus/machine-id
fi
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
for leases in /var/lib/dhcp /var/lib/NetworkManager /run/systemd/netif/leases; do
    if [ -d "$leases" ]; then
        find "$leases" -name '*lease*' -type f -delete
    fi
done

if [ "$FAMILY" = apt ]; then
    apt-get clean
    find /var/lib/apt/lists -mindepth 1 -maxdepth 1 -type f -delete
else
    dnf clean --quiet all
fi
sync
