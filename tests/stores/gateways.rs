//! What speaks S3 and is not Amazon's, and the programs that upload to it.

use super::{SITE, deploys_what_was_asked_for, serves};
use crate::host::{Host, SOON};
use crate::instance::Image;
use std::path::Path;

/// pip runs behind whatever proxy this machine has, so it is told to trust what this
/// machine trusts.
const INSTALL: &str = "
    apt-get update -q
    apt-get install -q --yes --no-install-recommends python3-pip s3cmd
    pip install --quiet --break-system-packages --cert ca-certificates.crt \
        'moto[s3,server]' boto3 awscli
    rm -rf /root/.cache /var/cache/apt /var/lib/apt/lists
    mkdir -p /var/cache/apt/archives/partial
";

const START: &str = "systemd-run --quiet --unit=moto moto_server --host 127.0.0.1 --port 8090";

const SETTINGS: &str = "AWS_ENDPOINT_URL=http://127.0.0.1:8090\nDEPLOY_SETTLE=0s\n\
                        DEPLOY_DRAIN_TIMEOUT=0s\n";

const KEYS: &str = "export AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=secret \
                    AWS_DEFAULT_REGION=eu-central-1";

/// Each uploads /srv/site to the bucket `$1`.
const UPLOADERS: [(&str, &str); 3] = [
    (
        "awscli",
        "aws --endpoint-url http://127.0.0.1:8090 s3 cp --quiet --recursive /srv/site s3://$1/",
    ),
    (
        "s3cmd",
        "s3cmd --quiet --no-ssl --host=127.0.0.1:8090 --host-bucket=127.0.0.1:8090 \
         --access_key=AKIDEXAMPLE --secret_key=secret put --recursive /srv/site/ s3://$1/",
    ),
    (
        "boto3",
        "python3 - $1 <<'END'
import boto3, os, sys
s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:8090')
for at, _, files in os.walk('/srv/site'):
    for name in files:
        path = os.path.join(at, name)
        s3.put_object(Bucket=sys.argv[1], Key=os.path.relpath(path, '/srv/site'),
                      Body=open(path, 'rb').read(), ChecksumAlgorithm='SHA256')
END",
    ),
];

#[test]
#[ignore = "`make stores` runs it: its image is large"]
fn moto_keeps_what_every_uploader_stores() {
    let trust = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let image = Image::base().layer("gateways", &[trust], INSTALL);
    let host = Host::of(&Host::image_on(image, "gateways-agent"));
    host.configure(SETTINGS);
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    host.sh(SITE);
    host.sh(START);
    host.wait_for("moto", SOON, || {
        host.sh("ss -Hltn 'sport = 8090'").contains("LISTEN").then_some(())
    });
    for (uploader, command) in UPLOADERS {
        let bucket = format!("with-{uploader}");
        let make = "aws --endpoint-url http://127.0.0.1:8090 s3 mb";
        host.sh(&format!("set -e\n{KEYS}\n{make} s3://{bucket}\nset -- {bucket}\n{command}\n"));
        deploys_what_was_asked_for(&host, uploader, &format!("s3://{bucket}"));
        assert_eq!(serves(&host), "one");
    }
}
