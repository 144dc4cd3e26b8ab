#!/bin/bash
# A journal that is kept over reboots and bounded.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

changed=$(write_file /etc/systemd/journald.conf.d/20-image.conf <<'END'
# The journal has every line of every app: it may use 1 GB, and leaves 1 GB of the disk free.
[Journal]
Storage=persistent
SystemMaxUse=1G
SystemKeepFree=1G
SystemMaxFileSize=64M
RuntimeMaxUse=64M
END
)
if [ ! -d /var/log/journal ]; then
    mkdir /var/log/journal
    systemd-tmpfiles --create --prefix /var/log/journal
fi
if [ -n "$changed" ]; then
    echo "$changed"
    if running; then
        systemctl restart systemd-journald.service
    fi
fi
