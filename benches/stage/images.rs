//! A deploy by an image pull, as Kamal does it: `podman pull` from a registry, a new container, a
//! proxy that is told of it once it answers, and the old container stops.
//!
//! The registry is on the same instance, which favours it. Neither TLS nor ssh is in the way.

use crate::fixtures::{self, AT, Kind, archive};
use crate::gp3::NODE;
use crate::sample::Sample;
use crate::site::{credentials, mount_disk, warm};
use crate::table::Rows;
use std::thread;
use std::time::{Duration, Instant};
use testkit::app::{BUCKET, url};
use testkit::host::{Host, SOON};
use testkit::instance::Network;

const GROUP: &str = "images: deploy node, to the first answer";
const PROXY_PORT: u16 = 8081;
/// A timeout that shows a fault of the benchmark.
const PATIENCE: Duration = Duration::from_secs(300);

/// Base image, registry, proxy, and the tree of the app.
const SETUP: &str = r#"
set -euo pipefail
mkdir -p /var/lib/deploy/images/registry /var/lib/deploy/images/context/app
cd /var/lib/deploy/images
cat >/etc/containers/storage.conf <<EOF
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/deploy/images/storage"
EOF
cat >registry.yml <<EOF
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/deploy/images/registry}}
http: {addr: 127.0.0.1:5005}
EOF
systemd-run --quiet --unit=registry docker-registry serve $PWD/registry.yml
tar -C / --exclude=usr/lib/modules --exclude=usr/share -cf - bin lib lib64 usr etc |
    podman import --quiet - localhost/base >/dev/null
tar xzf "$1" -C context/app
cat >nginx.conf <<EOF
events {}
pid /run/proxy.pid;
http { access_log off; include /run/upstream.conf; server { listen 8081; location / { proxy_pass http://app; } } }
EOF
echo 'upstream app { server 127.0.0.1:1; }' >/run/upstream.conf
nginx -c $PWD/nginx.conf
"#;

/// Builds a release and pushes it; its tree is a layer of its own, and its name another.
const PUBLISH: &str = r#"
set -euo pipefail
cd /var/lib/deploy/images/context
printf 'FROM localhost/base\nCOPY app /app\nWORKDIR /app\nENV NAMED=%s\nCOPY named /app/named\nCMD ["/usr/local/bin/node", "server.js"]\n' "$1" >Dockerfile
echo "$1" >named
podman build --quiet --tag "localhost:5005/my-app:$1" . >/dev/null
podman push --quiet --tls-verify=false "localhost:5005/my-app:$1"
podman rmi --force "localhost:5005/my-app:$1" >/dev/null
[ "$2" = small ] || podman image prune --force >/dev/null
"#;

const DEPLOY: &str = r#"
set -euo pipefail
podman pull --quiet --tls-verify=false "localhost:5005/my-app:$1" >/dev/null
old=$(podman ps --quiet)
podman run --quiet --detach --network=host --cgroups=disabled --env PORT="$2" \
    "localhost:5005/my-app:$1" >/dev/null
until curl --fail --silent --output /dev/null "http://127.0.0.1:$2/"; do sleep 0.01; done
echo "upstream app { server 127.0.0.1:$2; }" >/run/upstream.conf
nginx -c /var/lib/deploy/images/nginx.conf -s reload
[ -z "$old" ] || podman stop --time 10 $old >/dev/null
podman container prune --force >/dev/null
"#;

pub fn run(rows: &mut Rows, rounds: usize) {
    let tools = ["podman", "docker-registry", "crun", "nginx-light", "curl"];
    let image = fixtures::furnished().with_packages("images", &tools);
    let image = Host::image_on(image, "bench-images");
    let host = Host::built_on(Network::new(), |builder| builder.image(&image));
    mount_disk(&host);
    host.write("/usr/local/bin/node", NODE);
    host.configure("DEPLOY_KEEP_RELEASES=1\nDEPLOY_SETTLE=200ms\n");
    host.sh("chmod 755 /usr/local/bin/node; systemctl restart deployd.service");
    let at = format!("{AT}/{}", archive("node", Kind::Gzip));
    bash(&host, SETUP, &[&at]);
    for round in 1..=rounds.min(3) {
        eprintln!("images: round {round}");
        let name = format!("i{round}");
        publish(&host, &name);
        rows.add(GROUP, "deploy URL", true, answered(&host, 5000, &name, &["deploy", &url(&name)]));
        for (what, how) in
            [("image pull, all is new", "all"), ("image pull, a small layer is new", "small")]
        {
            let name = format!("{how}{round}");
            bash(&host, PUBLISH, &[&name, how]);
            let port =
                if host.sh("cat /run/upstream.conf").contains("6001") { "6002" } else { "6001" };
            let command = ["bash", "-c", DEPLOY, "deploy", &name, port];
            rows.add(GROUP, what, true, answered(&host, PROXY_PORT, &name, &command));
        }
    }
    eprintln!("{}", rows.group(GROUP));
}

fn publish(host: &Host, name: &str) {
    let bytes = host.read(&format!("{AT}/{}", archive("node", Kind::Gzip)));
    let at = format!("my-app/production/{name}");
    host.s3().put(BUCKET, &format!("{at}/source.tar.gz"), bytes);
    host.s3().put(BUCKET, &format!("{at}/env"), format!("NAMED={name}\n"));
}

fn bash(host: &Host, script: &str, arguments: &[&str]) {
    let command = [&["bash", "-c", script, "bash"], arguments].concat();
    host.command(&command).deadline(PATIENCE).output().ok();
}

/// Measures from the start of a command to the first answer of the release.
fn answered(host: &Host, port: u16, release: &str, command: &[&str]) -> Sample {
    warm(host);
    let page = format!("http://{}:{port}/", host.address());
    let begin = Instant::now();
    let job = credentials(host.command(command)).deadline(PATIENCE).spawn();
    let answered = || host.network.http_get(&page).is_ok_and(|page| page.body == release);
    while !answered() && begin.elapsed() < SOON {
        thread::sleep(Duration::from_millis(2));
    }
    let wall = begin.elapsed().as_secs_f64();
    let said = job.output();
    let failed = said.status != Some(0) || begin.elapsed() >= PATIENCE;
    if failed {
        eprintln!("  failed: {said:?}");
    }
    Sample { wall, synced: wall, failed, ..Sample::default() }
}
