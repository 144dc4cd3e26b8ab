//! Deploys from the common servers for releases, in their packaged versions. This is the short
//! form, which is part of `make test`.

use crate::host::Host;

/// Creates releases of the app `app` below /srv/site. The archives and envs of r1 and r2 have
/// the same size and time, as two builds may; r3 is a copy of r1.
pub const SITE: &str = "
    set -e
    made() {
        mkdir -p /srv/site/app/production/$1 /tmp/$1
        echo $2 >/tmp/$1/VERSION
        printf 'web: exec python3 -m http.server $PORT --bind 0.0.0.0\\n' >/tmp/$1/Procfile
        tar cf /srv/site/app/production/$1/source.tar -C /tmp/$1 .
        echo 'export A=1' >/srv/site/app/production/$1/env
        touch -d @1700000000 /srv/site/app/production/$1/*
    }
    made r1 one
    made r2 two
    cp -r --preserve=timestamps /srv/site/app/production/r1 /srv/site/app/production/r3
    chmod -R a+rX /srv/site
";

/// Returns the version that the running app serves.
pub fn serves(host: &Host) -> String {
    let url = format!("http://{}:5000/VERSION", host.address());
    host.network.http_get(&url).map(|answer| answer.body.trim().to_owned()).unwrap_or_default()
}

/// Deploys r1, r2 and r1 from `base`, and checks what must hold for each store.
#[track_caller]
pub fn deploys_what_was_asked_for(host: &Host, store: &str, base: &str) {
    let deploy = |release: &str| {
        let url = format!("{base}/app/production/{release}");
        host.deploy(&[&url]).exits(0).stdout
    };
    for (release, version) in [("r1", "one"), ("r2", "two"), ("r1", "one")] {
        let said = deploy(release);
        assert_eq!(serves(host), version, "{store}, {release}: {said}");
        let again = deploy(release);
        assert_eq!(again, format!("app {release} is already running\n"), "{store}");
    }
    let same = "app r3 is the same content as r1, which is already running\n";
    assert_eq!(deploy("r3"), same, "{store}");
}
