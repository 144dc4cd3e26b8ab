//! What ship releases is what the agent deploys: on a booted instance, with the package that
//! DEPLOY_DEB names.

use crate::bench::Bench;
use testkit::host::Host;

#[test]
fn the_agent_deploys_what_ship_has_released() {
    if std::env::var_os("DEPLOY_DEB").is_none() {
        eprintln!("not run: DEPLOY_DEB names no package");
        return;
    }
    let bench = Bench::new();
    bench.ok(&["config", "-e", "production", "set", "NAME=it's a hat", "DEPLOY_HEALTH_PATH=/"]);
    assert_eq!(bench.ok(&["release", "production"]), "r1\n");
    bench.ok(&["config", "-e", "production", "set", "NAME=caps", "--release"]);
    let host = Host::boot();
    for release in ["r1", "r2"] {
        for name in ["env", "source.tar.zst", "release.json", "SHA256SUMS"] {
            let key = format!("shop/production/{release}/{name}");
            host.s3().put("releases", &key, bench.get(&key).expect("an object"));
        }
    }
    for (release, body) in [("r1", "it's a hat"), ("r2", "caps")] {
        let url = format!("s3://releases/shop/production/{release}");
        host.deploy(&[&url]).exits(0);
        assert_eq!(host.served().as_deref(), Some(body));
    }
}
