//! Servers that listen on 127.0.0.1 by default.

use crate::framework::App;
use crate::handovers::{PACKED, Story};
use testkit::runtime::Runtime;

/// Repacks the app without the option that makes it listen where clients reach it.
const REPACK: &str = "
    mkdir /srv/local
    tar -xf /srv/source.tar.zst -C /srv/local
    sed -i 's/ --host 0.0.0.0//' /srv/local/Procfile
    tar --zstd -cf /srv/local.tar.zst -C /srv/local .
";

#[test]
fn uvicorn_on_its_default_address_is_refused_until_it_binds_all() {
    let app = App { name: "fastapi", runtime: Runtime::Python, is_web: true, farewells: &[] };
    let story = Story::of(&app);
    story.host.sh(REPACK);
    story.publish("r1", "/srv/local.tar.zst", "export GREETING=r1 DEPLOY_HEALTH_TIMEOUT=15s\n");
    let said = story.deploy("r1").exits(12);
    let help = said.stderr.lines().find(|line| line.starts_with("help:")).unwrap_or_default();
    assert!(said.stdout.contains("127.0.0.1") && help.contains("0.0.0.0"), "{said:#?}");
    story.publish("r2", PACKED, "export GREETING=r2\n");
    story.deploy("r2").exits(0);
    story.serves("r2");
}
