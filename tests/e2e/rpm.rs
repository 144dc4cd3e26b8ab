//! The .rpm: its files beside those of the .deb, and what installing, upgrading and removing it
//! with rpm does to the agent and to a running app.
//!
//! The machine is Debian with rpm; what differs on Amazon Linux, the preset that disables every
//! unit and the path of the certificates, is put there.

use crate::package::{main_pid, processes, served_throughout};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::app::Release;
use testkit::host::Host;
use testkit::instance::{Image, Instance, Network, Output, package, package_of};

const RPM: &str = "/root/agent.rpm";
const NEXT: &str = "/root/next.rpm";
const LINK: &str = "/home/deploy/bin/deploy";
const SETTINGS: &str = "/etc/deploy/agent.env";

fn ours() -> PathBuf {
    package_of("DEPLOY_RPM", "rpm")
}

fn image() -> Image {
    Image::base().with_packages("rpm", &["rpm"]).layer(
        "like-amazon-linux",
        &[],
        "echo 'disable *' >/usr/lib/systemd/system-preset/99-default-disable.preset
        mkdir -p /etc/pki/tls/certs
        ln -s /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt",
    )
}

fn clean_machine() -> Instance {
    let machine = Network::new().instance().image(&image()).boot();
    machine.push(ours(), RPM);
    machine
}

/// A host with r1, on which the .rpm was installed while its image was made.
fn running_r1() -> Host {
    let host = Host::of(&Host::image_with(image(), "agent-by-rpm", &ours()));
    host.push(ours(), RPM);
    host.push(package_of("DEPLOY_RPM_NEXT", "next-rpm"), NEXT);
    host.publish(&Release::new("r1"));
    host.deploys("r1");
    host
}

/// Runs rpm, which knows none of Debian's packages, and so no dependency.
fn rpm(machine: &Instance, words: &[&str]) -> Output {
    machine.exec(&[&["rpm", "--force-debian", "--nodeps"], words].concat())
}

fn units(machine: &Instance, verb: &str) -> String {
    machine.exec(&["systemctl", verb, "deployd.socket", "deployd.service"]).stdout
}

#[test]
fn installs_on_a_clean_machine() {
    let machine = clean_machine();
    let said = rpm(&machine, &["--install", RPM]).exits(0);
    // systemd-sysusers names the users that it creates.
    let complaint = said.stderr.lines().find(|line| !line.starts_with("Creating "));
    assert_eq!((said.stdout.as_str(), complaint), ("", None));
    assert_eq!(units(&machine, "is-enabled"), "enabled\nenabled\n");
    assert_eq!(units(&machine, "is-active"), "active\nactive\n");
    machine.sh("systemctl --quiet is-system-running");
    assert_eq!(machine.sh("id -Gn deploy-app"), "deploy-app\n");
    let socket = "stat -c '%a %U %G %F' /run/deploy/deployd.sock";
    assert_eq!(machine.sh(socket), "660 root deploy socket\n");
    // Files that differ from the package's in size, mode, owner or content.
    assert_eq!(rpm(&machine, &["--verify", "deploy-agent"]).exits(0).stdout, "");
    assert_eq!(machine.sh("rpm --query --configfiles deploy-agent"), format!("{SETTINGS}\n"));
    machine.sh("systemd-analyze verify --man=no deployd.service deployd.socket");
    let environment = machine.sh("systemctl show --property=Environment deployd");
    let certificates = "SSL_CERT_FILE=/etc/pki/tls/certs/ca-bundle.crt";
    assert!(environment.contains(certificates), "{environment}");
    machine.reboot();
    machine.exec(&["deploy", "status"]).exits(0);
}

#[test]
fn the_app_does_not_notice_an_upgrade() {
    let host = running_r1();
    let settings = host.read(SETTINGS);
    let (before, agent) = (processes(&host), main_pid(&host, "deployd"));

    served_throughout(&host, || rpm(&host, &["--upgrade", NEXT]).exits(0));
    assert_eq!(processes(&host), before);
    assert_ne!(main_pid(&host, "deployd"), agent);
    assert_eq!(host.sh("rpm --query --queryformat '%{VERSION}' deploy-agent"), "99.0");
    assert!(host.read(SETTINGS) == settings, "agent.env has changed");
    assert_eq!(units(&host, "is-enabled"), "enabled\nenabled\n");
    let status = host.status();
    assert_eq!((&status["release"], &status["healthy"]), (&"r1".into(), &true.into()));

    host.publish(&Release::new("r2"));
    host.deploys("r2");
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r1"));
}

#[test]
fn a_unit_that_an_operator_has_disabled_stays_so() {
    let machine = clean_machine();
    machine.push(package_of("DEPLOY_RPM_NEXT", "next-rpm"), NEXT);
    rpm(&machine, &["--install", RPM]).exits(0);
    machine.sh("systemctl --quiet disable --now deployd.service deployd.socket");
    rpm(&machine, &["--upgrade", NEXT]).exits(0);
    assert_eq!(units(&machine, "is-enabled"), "disabled\ndisabled\n");
    assert_eq!(units(&machine, "is-active"), "inactive\ninactive\n");
}

#[test]
fn removal_leaves_the_apps_running_and_their_data() {
    let host = running_r1();
    let (before, settings) = (processes(&host), host.read(SETTINGS));
    let said = served_throughout(&host, || {
        let said = rpm(&host, &["--erase", "deploy-agent"]).exits(0);
        host.sh("systemctl daemon-reload");
        said
    });
    assert!(said.stdout.contains("these apps run on"), "{said:#?}");
    assert!(said.stdout.contains("\n  my-app\n"), "{said:#?}");
    assert_eq!(processes(&host), before);
    host.exec(&["pgrep", "deployd"]).exits(1);
    host.exec(&["test", "-e", "/run/deploy/deployd.sock"]).exits(1);
    assert_eq!(host.sh("ls /var/lib/deploy/apps/my-app/releases"), "r1\n");
    let saved = format!("{SETTINGS}.rpmsave");
    assert!(host.read(&saved) == settings, "the settings are lost");
    assert_eq!(host.sh(&format!("stat -c '%a %U' {saved}")), "600 root\n");
    let left = "find /etc/systemd /usr/lib/systemd -name '*deploy*' -print";
    assert_eq!(host.sh(left), "");

    served_throughout(&host, || rpm(&host, &["--install", RPM]).exits(0));
    host.sh(&format!("mv {saved} {SETTINGS}; systemctl reload-or-restart deployd"));
    assert_eq!(processes(&host), before);
    host.publish(&Release::new("r2"));
    host.deploys("r2");
    assert_eq!(host.served().as_deref(), Some("r2"));
}

#[test]
fn the_old_path_of_the_command_lies_in_the_home_of_a_user_deploy() {
    let machine = clean_machine();
    machine.sh("useradd --user-group --create-home deploy");
    rpm(&machine, &["--install", RPM]).exits(0);
    assert_eq!(machine.sh(&format!("readlink {LINK}")), "/usr/bin/deploy\n");
    assert_eq!(machine.sh("stat -c %U /home/deploy/bin"), "deploy\n");
    rpm(&machine, &["--erase", "deploy-agent"]).exits(0);
    machine.exec(&["test", "-L", LINK]).exits(1);
    machine.exec(&["test", "-d", "/home/deploy"]).exits(0);
}

/// Runs a script with the package as `$1`; returns the lines of its output.
fn lines(script: &str, package: &Path) -> BTreeSet<String> {
    let mut command = Command::new("sh");
    let ran = command.args(["-euc", script, "lines"]).arg(package).output().expect("start sh");
    assert!(ran.status.success(), "{}: {ran:?}", package.display());
    String::from_utf8_lossy(&ran.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn has_the_files_of_the_deb() {
    let deb = "dpkg-deb --contents \"$1\" | awk '$NF !~ /\\/$/ {print $1, $2, substr($NF, 2)}' |
        sed 's# 0/0 # root/root #'";
    let rpm = "rpm --query --package --queryformat \
        '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\\n]' \"$1\" |
        grep -v ^d";
    let (deb, rpm) = (lines(deb, &package()), lines(rpm, &ours()));
    assert!(deb.contains("-rwxr-xr-x root/root /usr/bin/deployd"), "{deb:#?}");
    let only = |these: &BTreeSet<String>, those| -> Vec<String> {
        let all: Vec<&String> = these.difference(those).collect();
        all.iter().map(|line| line.replace("-rw-r--r-- root/root ", "")).collect()
    };
    let only_deb = [
        "/etc/needrestart/conf.d/deploy-agent.conf",
        "/usr/share/doc/deploy-agent/changelog.Debian.gz",
        "/usr/share/lintian/overrides/deploy-agent",
        "/usr/share/zsh/vendor-completions/_deploy",
    ];
    let only_rpm = [
        "/usr/lib/systemd/system-preset/80-deploy-agent.preset",
        "/usr/lib/systemd/system/deployd.service.d/certificates.conf",
        "/usr/share/zsh/site-functions/_deploy",
    ];
    assert_eq!(only(&deb, &rpm), only_deb);
    assert_eq!(only(&rpm, &deb), only_rpm);
}

#[test]
fn needs_what_the_deb_needs_and_a_c_library_of_amazon_linux() {
    let needs = lines("rpm --query --package --requires \"$1\"", &ours());
    for one in ["systemd >= 252", "dbus", "ca-certificates"] {
        assert!(needs.contains(one), "{needs:#?}");
    }
    let hints = lines("rpm --query --package --recommends \"$1\"", &ours());
    assert_eq!(Vec::from_iter(&hints), ["nftables", "openssh", "rsyslog", "rsyslog-gnutls"]);
    // Amazon Linux 2023 has glibc 2.34.
    let minor = |need: &String| -> Option<u32> {
        let version = need.strip_prefix("libc.so.6(GLIBC_2.")?;
        version.split([')', '.']).next()?.parse().ok()
    };
    let newest = needs.iter().filter_map(minor).max();
    assert!(newest.is_some_and(|minor| minor <= 34), "{needs:#?}");
}

#[test]
fn rpmlint_finds_no_error() {
    let filters = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/rpm/rpmlintrc");
    let ran = Command::new("rpmlint").arg("--rpmlintrc").arg(filters).arg(ours()).output();
    let ran = ran.expect("start rpmlint: apt-get install rpmlint");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && !said.contains(": E: "), "{said}");
}
