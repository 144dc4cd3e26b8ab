//! The user-data of packer/user-data, with the settings of this network.

use std::fs;
use testkit::aws::{SETTINGS, user_data};

/// Returns cloud-init.yaml.
pub fn cloud_config() -> String {
    let indented: String = SETTINGS.lines().map(|line| format!("      {line}\n")).collect();
    edited("cloud-init.yaml", "      AWS_REGION=eu-central-1\n", &indented)
}

/// Returns cloud-init.yaml for an app whose env has its health path.
pub fn cloud_config_of_an_app() -> String {
    cloud_config().replace("      DEPLOY_HEALTH_PATH=/health\n", "")
}

/// Returns deploy.sh.
pub fn script() -> String {
    let settings = format!("cat >/etc/deploy/agent.env <<'END'\n{SETTINGS}END\n");
    edited("deploy.sh", "set -eu\n", &format!("set -eu\n{settings}"))
}

fn edited(name: &str, from: &str, to: &str) -> String {
    let text = fs::read_to_string(user_data(name)).expect("read the user-data");
    assert_eq!(text.matches(from).count(), 1, "{name} has {from:?} once");
    text.replacen(from, to, 1)
}
