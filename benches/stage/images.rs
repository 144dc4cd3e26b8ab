//! A deploy of a container image in the order of Kamal: the image is pulled, a container starts
//! beside the present one, and when it answers, the proxy switches and the old container stops.
//!
//! <https://github.com/basecamp/kamal/blob/main/lib/kamal/cli/app/boot.rb> has the order; a rollback
//! is the same without the pull. Podman stands in for Docker, and a reload of nginx for a command to
//! kamal-proxy. SSH, the lock, the interval of 1 s between health checks, a network for the
//! container, and the removal of old images are left out.

use crate::sample::Sample;
use crate::serving::until_answered;
use crate::site::{DISK, Site};
use testkit::app::APP;
use testkit::instance::Image;

pub const PULL: &str = "image pull, as Kamal does";
pub const KEPT: &str = "image kept, as Kamal does";

const PORT: u16 = 5095;

/// Runs on the origin, and has its blobs in memory, as our S3 has its objects.
const REGISTRY: &str = "\
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: /run/registry}}
http: {addr: ':5001'}
";

const UNENCRYPTED: &str = "[[registry]]\nlocation = \"registry.test:5001\"\ninsecure = true\n";

/// Makes a base image of the instance's own Python. Podman's overlays need another file system
/// than the overlay of the instance's root.
const BASE: &str = r#"
mount -t tmpfs tmpfs /var/lib/containers
systemd-run --quiet --unit registry docker-registry serve /etc/registry.yml
until curl --fail --silent http://registry.test:5001/v2/; do sleep 0.01; done
shopt -s nullglob
cd /
tar c bin lib lib64* usr/lib64* usr/bin/python3* usr/lib/python3.* usr/lib/*-linux-gnu \
    usr/lib/ld-linux* etc/ld.so.cache | podman import --quiet - registry.test:5001/base
"#;

const CONTAINERFILE: &str = r#"
FROM registry.test:5001/base
WORKDIR /app
COPY app.py VERSION ./
CMD ["python3", "app.py", "web"]
"#;

const PUBLISH: &str = r"
podman build --quiet --isolation chroot --tag registry.test:5001/app:$0 /srv/release
podman push --quiet registry.test:5001/app:$0
podman rmi registry.test:5001/app:$0
";

const SCRIPT: &str = r#"#!/bin/bash
set -euo pipefail
cd /var/lib/deploy/images
image=registry.test:5001/app:$2
read -r old port <current
port=$((port ^ 1))
[ "$1" = run ] || podman pull --quiet "$image"
new=$(podman run --detach --network host --cgroups disabled --env "PORT=$port" "$image")
until curl --fail --silent --output /dev/null "http://127.0.0.1:$port/"; do sleep 0.01; done
echo "server 127.0.0.1:$port;" >server
kill -HUP "$(cat /run/nginx.pid)"
podman stop --ignore "$old"
echo "$new $port" >current
"#;

const PROXY: &str = "\
events {}
http {
    access_log off;
    upstream app { include /var/lib/deploy/images/server; }
    server { listen 5095; location / { proxy_pass http://app; } }
}
";

const FIRST: &str = "image";

/// Adds podman and a registry to an image.
pub fn programs(image: Image) -> Image {
    image.layer("bench-images", &[], include_str!("images.sh"))
}

/// A site with a registry, and with an app that runs in a container.
pub struct Images<'a> {
    site: &'a Site,
}

impl<'a> Images<'a> {
    /// Returns none if a program is missing.
    pub fn install(site: &'a Site) -> Option<Images<'a>> {
        if !["podman", "docker-registry"].into_iter().all(|program| site.has(program)) {
            return None;
        }
        let registry = site.origin.address();
        for instance in [&*site.host, &site.origin] {
            instance.sh(&format!("echo {registry} registry.test >>/etc/hosts"));
            instance.write("/etc/containers/registries.conf", UNENCRYPTED);
        }
        site.origin.write("/etc/registry.yml", REGISTRY);
        site.origin.write("/srv/release/Containerfile", CONTAINERFILE);
        site.origin.write("/srv/release/app.py", APP);
        site.origin.sh(BASE);
        site.host.write("/usr/local/bin/image", SCRIPT);
        site.host.write("/etc/nginx/nginx.conf", PROXY);
        site.host.sh(&format!(
            "chmod 755 /usr/local/bin/image
            mkdir -p {DISK}/images {DISK}/containers /var/lib/containers
            mount --bind {DISK}/containers /var/lib/containers
            echo none 5100 >{DISK}/images/current
            echo 'server 127.0.0.1:5100;' >{DISK}/images/server
            systemctl start nginx.service"
        ));
        let images = Images { site };
        // Brings the base image too.
        images.deploy(FIRST);
        Some(images)
    }

    /// Builds and pushes the image of a release, and measures its deploy.
    pub fn deploy(&self, release: &str) -> Sample {
        self.site.origin.write("/srv/release/VERSION", release);
        self.site.origin.exec(&["bash", "-euc", PUBLISH, release]).ok();
        until_answered(self.site, PORT, release, &["image", "deploy", release])
    }

    /// Measures the start of the first release, whose image is there already.
    pub fn roll_back(&self) -> Sample {
        until_answered(self.site, PORT, FIRST, &["image", "run", FIRST])
    }

    /// Ends the app and its proxy.
    pub fn stop(self) {
        self.site.host.sh("podman stop --all; systemctl stop nginx.service");
    }
}
