//! Language runtimes on top of the base image, and the apps of `examples/`, packed with them.

use crate::instance::Image;
use std::path::Path;

/// The runtime that an instance needs for an app.
#[derive(Clone, Copy)]
pub enum Runtime {
    /// bash and python3, which the base image has.
    Base,
    /// Node.js with npm.
    Node,
    /// pip and venv.
    Python,
    /// Bundler, Puma, Unicorn and Sinatra.
    Ruby,
    /// The Go compiler.
    Go,
    /// The JDK.
    Java,
    /// PHP-FPM and nginx.
    Php,
}

impl Runtime {
    /// Returns the base image with the Debian packages of the runtime.
    pub fn image(self) -> Image {
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
                // The package needs this directory, which the base image leaves out.
                let base = base.layer("java-man", &[], "mkdir -p /usr/share/man/man1");
                base.with_packages("java", &["default-jdk-headless"])
            }
            Runtime::Php => base.with_packages("php", &["nginx-light", "php-fpm"]),
        }
    }
}

/// Packs releases r1 and r2, which differ in the name that the page shows.
const PACK: &str = r#"
    export HOME=/run/layer GOCACHE=/run/layer/gocache GOPATH=/run/layer/gopath GOTOOLCHAIN=local
    cp -r "$example" /srv/example
    cd /srv/example
    for release in r1 r2; do
        if [ -e app/VERSION ]; then echo $release >app/VERSION
        else echo "Hello from $release" >app/public/index.html; fi
        if [ -e pack.sh ]; then sh -eux pack.sh; else tar czf source.tar.gz -C app .; fi
        mv source.tar.gz /srv/$release.tar.gz
    done
"#;

/// Returns an image with the releases r1 and r2 of `examples/DIRECTORY`, packed as its README
/// says: /srv/r1.tar.gz, /srv/r2.tar.gz and /srv/example/env.
pub fn packed(directory: &str, runtime: Runtime) -> Image {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let script = format!("example={directory}\n{PACK}");
    let example = Path::new(examples).join(directory);
    runtime.image().layer(&format!("example-{directory}"), &[&example], &script)
}
