//! systemd itself accepts the units of the golden trees, and rates them as safe. These tests
//! need no package: `tests/golden.rs` shows that the generator writes these units.

use std::fs;
use std::path::{Path, PathBuf};
use testkit::instance::{Image, Instance, Network};

/// The directory of the golden trees; each subdirectory is a case, see `tests/golden.rs`.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// An instance with the user that apps run as, and without the agent.
pub fn boot() -> Instance {
    let image = Image::base().layer("app-users", &[], "useradd --system app-my-app");
    Network::new().instance().image(&image).boot()
}

/// Puts the units of a golden tree below `dir`.
#[track_caller]
pub fn push_units(host: &Instance, case: &str, dir: &str) {
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    archive.append_dir_all(".", golden().join(case).join("expected")).expect("read the tree");
    let archive = archive.into_inner().expect("an archive");
    host.exec(&["mkdir", "-p", dir]).ok();
    host.command(&["tar", "-C", dir, "-xf", "-"]).input(archive).output().ok();
}

#[test]
fn systemd_accepts_every_golden_tree() {
    let host = boot();
    for case in fs::read_dir(golden()).expect("golden trees") {
        let case = case.expect("a case").file_name().into_string().expect("a UTF-8 name");
        let dir = format!("/root/golden/{case}");
        push_units(&host, &case, &dir);
        assert_eq!(verify(&host, &dir), "", "{case}");
    }

    let broken = "/root/broken/deploy-app-web-r1@.service";
    host.write(broken, "[Service]\nExecStart=/bin/true\nNoSuchThing=yes\n");
    let said = verify(&host, "/root/broken");
    assert!(said.contains("NoSuchThing"), "{said:?}");
}

/// Returns systemd's complaints about the units in a directory, drop-ins included.
#[track_caller]
fn verify(host: &Instance, dir: &str) -> String {
    host.sh(&format!(
        "shopt -s nullglob; cd {dir}; units=(*.service *.target)
        for drop_in in *.service.d; do units+=(\"${{drop_in%.d}}\"); done
        SYSTEMD_UNIT_PATH=$PWD: systemd-analyze verify --man=no \"${{units[@]}}\" 2>&1 || echo failed"
    ))
}

/// Returns the exposure level of a loaded unit by `systemd-analyze security`.
#[track_caller]
pub fn exposure(host: &Instance, unit: &str) -> f64 {
    let json = host.sh(&format!("systemd-analyze security --no-pager {unit} | tail -1"));
    let score = json.split_whitespace().find_map(|word| word.parse().ok());
    score.unwrap_or_else(|| panic!("no score: {json}"))
}

/// The sandbox of a release that configures nothing.
#[test]
fn a_strict_unit_is_scored_1_4_or_better() {
    let host = boot();
    push_units(&host, "01-minimal", "/root/golden");
    host.sh("cd /root/golden
        systemd-analyze security --offline=true --threshold=14 ./deploy-my-app-web-r1@.service");
}
