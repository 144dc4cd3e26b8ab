//! An unmodified third-party app: Express with its node_modules, thousands of files by other
//! authors, on Debian's node.

use serde_json::Value;
use std::path::Path;
use testkit::app::BUCKET;
use testkit::host::{Host, SOON};
use testkit::instance::Image;

/// Creates the app with npm from the public registry, and packs it as a build server would. npm
/// trusts this machine's CA bundle, since a proxy of this machine may be in between.
const MAKE: &str = "
    mkdir /srv/shop
    cp package.json server.js Procfile /srv/shop/
    export NODE_EXTRA_CA_CERTS=$PWD/ca-certificates.crt
    cd /srv/shop
    npm install --cafile=$NODE_EXTRA_CA_CERTS --no-audit --no-fund --loglevel=error
    tar --owner=0 --group=0 -cf /srv/source.tar .
    gzip --keep -1 /srv/source.tar
    zstd --quiet --rm /srv/source.tar
    rm -rf /root/.npm
";

/// An image with node and the app, built once; our package is installed on top.
fn image() -> Image {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/express"));
    let files = ["package.json", "server.js", "Procfile"].map(|name| dir.join(name));
    let trust = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let inputs: Vec<&Path> = files.iter().map(|file| &**file).chain([trust]).collect();
    let node = Image::base().with_packages("node", &["nodejs", "npm"]);
    Host::image_on(node.layer("express", &inputs, MAKE), "express-agent")
}

/// Publishes a release `name` of the app, from an archive in the image.
fn publish(host: &Host, name: &str, archive: &str) {
    let key = |file: &str| format!("shop/production/{name}/{file}");
    let env = format!("export GREETING='from {name}' DEPLOY_HEALTH_PATH=/health\n");
    host.s3().put(BUCKET, &key(archive), host.read(&format!("/srv/{archive}")));
    host.s3().put(BUCKET, &key("env"), env);
}

/// The response of Express; `None` if it does not answer.
fn answer(host: &Host) -> Option<Value> {
    serde_json::from_str(&host.served()?).ok()
}

/// Names, modes, links and file contents of a tree.
fn tree(host: &Host, path: &str) -> String {
    host.sh(&format!(
        "cd {path}
        find . \\( -path ./tmp -o -path ./log \\) -prune -o ! -name . -printf '%p %y %m %l\\n' | sort
        find . -type f -print0 | sort -z | xargs -0 sha256sum"
    ))
}

#[test]
fn an_express_app_with_its_dependencies_deploys_and_serves() {
    let mut host = Host::of(&image());
    let made = tree(&host, "/srv/shop");
    let files = host.sh("find /srv/shop -type f | wc -l");
    assert!(files.trim().parse::<u32>().expect("a number") >= 10_000, "{files} files");
    assert!(made.contains("./node_modules/.bin/semver l 777 ../semver/bin/semver.js\n"));

    for (name, archive) in [("r1", "source.tar.gz"), ("r2", "source.tar.zst")] {
        publish(&host, name, archive);
        host.deploy(&[&format!("s3://{BUCKET}/shop/production/{name}")]).exits(0);
        let said = answer(&host).expect("an answer");
        assert_eq!((&said["release"], &said["day"]), (&name.into(), &"1970-01-01".into()));
        assert_eq!(said["greeting"], format!("from {name}"));
        assert_eq!(said["goods"], serde_json::json!(["tea", "coffee"]));
        let unpacked = tree(&host, "/var/lib/deploy/apps/shop/current/app");
        assert!(unpacked == made, "{name} is another tree than the one that was packed");
    }

    let unit = "deploy-shop-web-r2@1.service";
    let sandbox = ["ProtectSystem=strict", "NoNewPrivileges=yes", "RestrictNamespaces=yes"];
    let shown = host.sh(&format!("systemctl show {unit}"));
    for property in sandbox {
        assert!(shown.lines().any(|line| line == property), "no {property}");
    }

    let before = answer(&host).expect("an answer")["pid"].clone();
    let _ = host.network.http_get(&format!("http://{}:5000/crash", host.address()));
    let after = host.wait_for("answer after the crash", SOON, || answer(&host));
    assert_ne!(after["pid"], before);
    assert_eq!(after["release"], "r2");
    assert_eq!(host.json(&["status", "shop", "--json"])[0]["processes"][0]["restarts"], 1);

    host.stop_s3();
    host.deploy(&["rollback", "shop"]).exits(0);
    assert_eq!(answer(&host).expect("an answer")["greeting"], "from r1");
}
