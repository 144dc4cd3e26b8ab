#!/bin/bash
# Security upgrades, installed daily. They restart no app, and never reboot the instance: the
# package of the agent excludes apps from needrestart. An app keeps the libraries that it has
# loaded until its next deploy or `deploy restart`.
set -euo pipefail
# shellcheck source=packer/provision/distribution.sh
. "$(dirname "${BASH_SOURCE[0]}")/distribution.sh"

if [ "$FAMILY" = dnf ]; then
    install_packages dnf-automatic
    write_file /etc/dnf/automatic.conf <<'END'
[commands]
upgrade_type = security
apply_updates = yes
reboot = never
random_sleep = 3600

[emitters]
emit_via = stdio
END
    # Repositories of Amazon Linux are locked to the version of the image, where no upgrade ever
    # appears. "latest" follows the newest one.
    write_file /etc/dnf/vars/releasever <<<'latest'
    enable_unit dnf-automatic.timer
    exit
fi

install_packages needrestart unattended-upgrades
write_file /etc/apt/apt.conf.d/52deploy-image <<'END'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
APT::Periodic::AutocleanInterval "7";

#clear Unattended-Upgrade::Allowed-Origins;
#clear Unattended-Upgrade::Origins-Pattern;
Unattended-Upgrade::Origins-Pattern {
    "origin=Debian,codename=${distro_codename}-security,label=Debian-Security";
    "origin=Ubuntu,archive=${distro_codename}-security,label=Ubuntu";
};
Unattended-Upgrade::Automatic-Reboot "false";
Unattended-Upgrade::Remove-Unused-Kernel-Packages "true";
END
enable_unit unattended-upgrades.service
enable_unit apt-daily.timer
enable_unit apt-daily-upgrade.timer
