//! A deploy in the order of CodeDeploy's agent, for an app in its place: the app stops, the bundle
//! is fetched and unpacked, its files are copied to their place, and the app starts again.
//!
//! <https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-hooks.html>
//! has the order. The agent's polling between the steps, and its reports, are left out.

use crate::sample::Sample;
use crate::serving::until_answered;
use crate::site::{DISK, Site};

pub const COPYING: &str = "copying, as CodeDeploy does";

const PORT: u16 = 5085;

const SCRIPT: &str = r#"#!/bin/bash
set -euo pipefail
cd /var/lib/deploy/copied
from=s3://releases/my-app/production/$1
# ApplicationStop
systemctl stop copied.service
# DownloadBundle
aws --endpoint-url "$S3" s3 cp --quiet "$from/source.tar.gz" bundle.tar.gz
aws --endpoint-url "$S3" s3 cp --quiet "$from/env" env
rm -rf bundle
mkdir bundle
tar xzf bundle.tar.gz -C bundle
# Install
rm -rf app
cp -a bundle app
# ApplicationStart
systemctl start copied.service
# ValidateService
until curl --fail --silent --output /dev/null http://127.0.0.1:5085/; do sleep 0.01; done
"#;

const UNIT: &str = "\
[Unit]
StartLimitIntervalSec=0

[Service]
User=deploy-app
WorkingDirectory=/var/lib/deploy/copied/app
EnvironmentFile=/var/lib/deploy/copied/env
Environment=PORT=5085
ExecStart=/usr/bin/python3 app.py web
Restart=always
";

/// Installs script and unit.
pub fn install(site: &Site) {
    site.host.write("/usr/local/bin/copying", SCRIPT);
    site.host.write("/etc/systemd/system/copied.service", UNIT);
    site.host.sh(&format!("chmod 755 /usr/local/bin/copying; mkdir -p {DISK}/copied"));
}

pub fn deploy(site: &Site, release: &str) -> Sample {
    until_answered(site, PORT, release, &["copying", release])
}
