//! A real application: a directory beside this file, packed in an image that
//! has its runtime.

use std::path::Path;
use testkit::host::Host;
use testkit::instance::Image;

/// What has to be installed on an instance before the app can run there.
#[derive(Clone, Copy)]
pub enum Runtime {
    /// The base image has bash and python3.
    Base,
    Node,
    Python,
    Ruby,
    Go,
    Java,
    Php,
}

/// An application, and what its log says about its end.
#[derive(Clone, Copy)]
pub struct App {
    /// The directory, and the name it is deployed under.
    pub name: &'static str,
    pub runtime: Runtime,
    /// Whether it answers HTTP; otherwise its one type is `worker`.
    pub is_web: bool,
    /// What the log of one process has once, or so many times, for one graceful end.
    pub farewells: &'static [(&'static str, usize)],
}

/// Packs the app as a build server would: `pack.sh` fetches and compiles, where
/// there is one. The registries are reached behind whatever proxy this machine
/// has, so their clients are told to trust what this machine trusts.
///
/// Wheels stay in the image, as a package index that an instance can reach:
/// instances have no way to the public one, and `build` runs pip there.
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

impl Runtime {
    /// The base with the packages of Debian that it takes.
    fn image(self) -> Image {
        let base = Image::base();
        match self {
            Runtime::Base => base,
            Runtime::Node => base.with_packages("node", &["nodejs", "npm"]),
            Runtime::Python => base.with_packages("python", &["python3-pip", "python3-venv"]),
            Runtime::Ruby => {
                let packages = ["bundler", "puma", "ruby-sinatra", "unicorn"];
                base.with_packages("ruby", &packages)
            }
            Runtime::Go => base.with_packages("go", &["golang-go"]),
            Runtime::Java => {
                // Taken for granted by the package, and left out of the base.
                let base = base.layer("java-man", &[], "mkdir -p /usr/share/man/man1");
                base.with_packages("java", &["default-jdk-headless"])
            }
            Runtime::Php => base.with_packages("php", &["nginx-light", "php-fpm"]),
        }
    }
}

impl App {
    /// An image with the app's archive and our package in it, made once.
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

    /// What every release of it has in its env.
    pub fn env(&self) -> String {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps")).join(self.name);
        std::fs::read_to_string(dir.join("env")).unwrap_or_default()
    }
}
