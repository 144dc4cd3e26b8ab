//! Two releases are the same if their bytes are, wherever they come from.

use testkit::app::{BUCKET, Release, url};
use testkit::host::{Host, SOON};
use testkit::s3::Stored;

/// A plain tar: two of them have the same size if their files fill the same number of blocks,
/// as with two releases that differ in a version number.
const SITE: &str = "
    set -e
    made() {
        mkdir -p /srv/site/app/production/$1 /tmp/$1
        echo $2 >/tmp/$1/VERSION
        printf 'web: cat VERSION; exec python3 -m http.server $PORT --bind 0.0.0.0\\n' \
            >/tmp/$1/Procfile
        tar cf /srv/site/app/production/$1/source.tar -C /tmp/$1 .
        echo 'export A=1' >/srv/site/app/production/$1/env
        touch -d @1700000000 /srv/site/app/production/$1/*
    }
    made r1 one
    made r2 two
    cp -r --preserve=timestamps /srv/site/app/production/r1 /srv/site/app/production/r3
";

const WEB: &str = "systemd-run --unit=site --working-directory=/srv/site \
                   python3 -m http.server 8080 --bind 127.0.0.1";

fn serves(host: &Host) -> String {
    let url = format!("http://{}:5000/VERSION", host.address());
    host.network.http_get(&url).map(|answer| answer.body.trim().to_owned()).unwrap_or_default()
}

#[test]
fn releases_of_equal_size_and_time_are_told_apart_by_their_bytes() {
    let host = Host::boot();
    host.sh(SITE);
    host.sh(WEB);
    host.wait_for("the web server", SOON, || {
        host.sh("ss -Hltn 'sport = 8080'").contains("8080").then_some(())
    });
    for base in ["http://127.0.0.1:8080", "file:///srv/site"] {
        let deploy = |release: &str| {
            let url = format!("{base}/app/production/{release}");
            host.deploy(&[&url]).exits(0).stdout
        };
        deploy("r1");
        assert_eq!(serves(&host), "one", "{base}");
        assert_eq!(deploy("r1"), "app r1 is already running\n");
        let said = deploy("r2");
        assert_eq!(serves(&host), "two", "{base}: {said}");
        // Then a downgrade.
        deploy("r1");
        assert_eq!(serves(&host), "one", "{base}");
        // The same bytes under another name are the running release.
        let said = "app r3 is the same content as r1, which is already running\n";
        assert_eq!(deploy("r3"), said, "{base}");
        assert_eq!(deploy("r3"), said, "{base}");
        let plan = host.json(&["plan", &format!("{base}/app/production/r3"), "--json"]);
        assert_eq!((&plan["nothing"], &plan["fetch"]), (&true.into(), &false.into()), "{base}");
    }
    // Over HTTP and from the directory they are the same two releases.
    let installed = host.json(&["releases", "app", "--json"]);
    assert_eq!(installed.as_array().map(Vec::len), Some(2), "{installed}");
}

/// A job on a build server that runs again.
#[test]
fn the_same_bytes_uploaded_again_are_the_same_release() {
    let host = Host::boot();
    host.s3().keep_versions(BUCKET);
    host.publish(&Release::new("r0"));
    host.deploys("r0");
    let r1 = Release::new("r1");
    host.publish(&r1);
    host.deploys("r1");
    let before = host.pids();
    for algorithm in ["CRC32", "CRC64NVME", "SHA1", "SHA256"] {
        let key = |name: &str| format!("my-app/production/r1/{name}");
        let stored = Stored::Right(algorithm);
        host.s3().put_with_checksum(BUCKET, &key("source.tar.gz"), r1.compressed(), stored);
        host.s3().put_with_checksum(BUCKET, &key("env"), r1.env_bytes().to_vec(), stored);
        assert_eq!(host.deploys("r1").stdout, "my-app r1 is already running\n", "{algorithm}");
    }
    assert_eq!(host.pids(), before);
    host.deploy(&["rollback"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r0"));
}

/// The archive is fetched, since only its content can show that it is the same, and discarded.
#[test]
fn the_same_bytes_with_another_etag_are_fetched_once_and_recognized() {
    let host = Host::boot();
    let r1 = Release::new("r1");
    host.publish(&r1);
    host.deploys("r1");
    let before = host.pids();
    host.s3().tell_no_types();
    host.publish(&r1);
    let reads = || {
        let asked = host.s3().requests();
        asked.iter().filter(|a| a.method == "GET" && a.path.ends_with("source.tar.gz")).count()
    };
    let fetched = reads();
    for _ in 0..2 {
        assert_eq!(host.deploys("r1").stdout, "my-app r1 is already running\n");
    }
    assert_eq!((reads(), host.pids()), (fetched + 1, before));
    let plan = host.json(&["plan", &url("r1"), "--json"]);
    assert_eq!(plan["nothing"], true);
}

/// Twins as 0.1.0 left them, told apart by their URLs.
#[test]
fn twins_from_an_older_version_never_displace_the_rollback_target() {
    let host = Host::boot();
    host.configure("DEPLOY_KEEP_RELEASES=2\n");
    for release in ["r0", "r1"] {
        host.publish(&Release::new(release));
        host.deploys(release);
    }
    // The same content again, with other settings of the agent.
    for prove in ["10ms", "20ms", "30ms"] {
        host.configure(&format!("DEPLOY_PROVE={prove}\n"));
        host.deploys("r1");
    }
    host.deploy(&["rollback", "--to", "r0"]).exits(0);
    assert_eq!(host.served().as_deref(), Some("r0"));
}
