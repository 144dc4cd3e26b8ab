//! A real application: a directory beside this file, packed into an image with its runtime.

use std::path::Path;
use testkit::host::Host;
use testkit::instance::Image;
use testkit::runtime::Runtime;

/// An application, and the messages in its log when it ends.
#[derive(Clone, Copy)]
pub struct App {
    /// The directory, and the name under which it is deployed.
    pub name: &'static str,
    pub runtime: Runtime,
    /// Whether it serves HTTP; otherwise its only type is `worker`.
    pub is_web: bool,
    /// Messages in one process's log per graceful end, and how often each appears.
    pub farewells: &'static [(&'static str, usize)],
}

/// Packs the app as a build server would: `pack.sh`, if present, fetches and compiles. The
/// clients of the registries use this machine's CA bundle, since a proxy of this machine may be
/// in between.
///
/// Wheels stay in the image, in place of a package index that an instance can reach: instances
/// cannot reach the public one, and `build` runs pip there.
const PACK: &str = r#"
    trust=$PWD/ca-certificates.crt
    export NODE_EXTRA_CA_CERTS=$trust npm_config_cafile=$trust PIP_CERT=$trust
    cp -r "$app" "/srv/$app"
    cd "/srv/$app"
    if [ -e requirements.txt ]; then
        pip wheel --quiet --wheel-dir /opt/wheels --requirement requirements.txt
        printf '[global]\nno-index = true\nfind-links = /opt/wheels\n' >/etc/pip.conf
    fi
    [ ! -e pack.sh ] || sh -eux pack.sh
    tar --owner=0 --group=0 --zstd -cf /srv/source.tar.zst --exclude=./pack.sh --exclude=./env .
    rm -rf /root/.npm /root/.cache
"#;

impl App {
    /// Returns an image with the app's archive and our package, built once.
    pub fn image(&self) -> Image {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps")).join(self.name);
        let trust = Path::new("/etc/ssl/certs/ca-certificates.crt");
        let script = format!("app={}\n{PACK}", self.name);
        let name = format!("app-{}", self.name);
        Host::image_on(
            self.runtime.image().layer(&name, &[&dir, trust], &script),
            &format!("{name}-agent"),
        )
    }

    /// Returns the part of env that all its releases share.
    pub fn env(&self) -> String {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps")).join(self.name);
        std::fs::read_to_string(dir.join("env")).unwrap_or_default()
    }
}
