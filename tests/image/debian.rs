//! The machine that Packer provisions: Debian 12 as its AMI has it, as far as a container can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::instance::{Image, Lifeline};

/// The port of the proxy by which apt reaches Debian.
pub const PROXY_PORT: u16 = 3128;

/// What AMIs of Debian have and a container lacks: the UUID by which cloud-init recognises EC2,
/// which the first process puts into /sys, and a network that a DHCP client sets up: it has
/// one already, and cloud-init would wait a minute for a server.
const FURNISH: &str = r#"
    cat >/etc/cloud/cloud.cfg.d/95_ec2.cfg <<'SETTINGS'
datasource_list: [Ec2]
datasource: {Ec2: {max_wait: 30, timeout: 5}}
network: {config: disabled}
SETTINGS
    dpkg-divert --quiet --local --rename /sbin/dhclient
    echo 'Acquire::http::Proxy "http://10.77.0.1:3128"; Acquire::http::Pipeline-Depth "0";' \
        >/etc/apt/apt.conf.d/99zz-proxy
    init=$(cat /usr/sbin/instance-init)
    {
        echo "${init%exec *}"
        cat <<'INIT'
mount --make-rprivate /sys
mount --rbind /sys /mnt
mount -t tmpfs -o nosuid,nodev,noexec sysfs /sys
for part in /mnt/*; do
    mkdir /sys/${part##*/}
    mount --rbind $part /sys/${part##*/}
done
umount --recursive --lazy /mnt
mkdir /sys/hypervisor
echo ec2e1916-9099-7caf-fd21-012345abcdef >/sys/hypervisor/uuid
mount -o remount,ro,bind /sys
mount --make-rshared /sys
INIT
        echo "exec ${init##*exec }"
    } >/usr/sbin/instance-init
    # Left out of the base; the package of Java needs it.
    mkdir -p /usr/share/man/man1
"#;

/// A pair of SSH keys, by which Packer logs in.
pub struct Key(PathBuf);

impl Key {
    /// Creates one that is removed with the process.
    pub fn new() -> Key {
        let dir = Lifeline::get().dir().join("ssh");
        fs::create_dir(&dir).expect("make a directory for the key");
        let key = dir.join("id");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "packer", "-f"])
            .arg(&key)
            .status()
            .expect("start ssh-keygen");
        assert!(made.success(), "ssh-keygen: {made}");
        Key(key)
    }

    pub fn private(&self) -> &Path {
        &self.0
    }

    /// The line for authorized_keys.
    pub fn public(&self) -> String {
        fs::read_to_string(self.0.with_extension("pub")).expect("read the public key")
    }
}

/// Returns a fresh Debian 12 with cloud-init and sshd.
pub fn fresh() -> Image {
    Image::base().with_packages("cloud", &["cloud-init", "python3-apt"]).layer(
        "cloud-ec2",
        &[],
        FURNISH,
    )
}
