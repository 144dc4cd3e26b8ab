//! How the image is made: Packer provisions a machine, and its disk is frozen.

use crate::debian;
use crate::fleet::Fleet;
use crate::packer::{Packer, Variables, source};
use std::collections::BTreeSet;
use std::fs;
use std::process;
use std::sync::OnceLock;
use testkit::aws::SETTINGS;
use testkit::instance::{Image, Instance, package};

const FRAMEWORKS: &str = "node,python,ruby,java";

/// Returns the image, which is built once in a run: from nothing, or with IMAGE=kept only if the
/// scripts or the package have changed since the last run.
pub fn image() -> Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| debian::fresh().frozen("image", inputs(), provision)).clone()
}

/// Returns the image with a release staged, as Packer's variable `release` does. The fleet has the
/// release.
pub fn image_with(url: &str, fleet: &Fleet) -> Image {
    // Another release each time, as far as its validators go.
    let inputs = (process::id(), url);
    image().frozen("image-staged", inputs, |image| {
        fleet.aws.group(&["--name", "machine"]);
        let machine = fleet.launch(image, 11).instance;
        // With other settings than user-data's it would be another release.
        let settings = format!("{SETTINGS}DEPLOY_HEALTH_PATH=/health\n");
        machine.write("/etc/deploy/agent.env", settings);
        let packer = Packer::get();
        packer.admit(&machine);
        let steps = "80-release 90-clean";
        packer.build(&machine, Variables { release: url, steps, ..Variables::default() });
        machine.sh("truncate --size=0 /etc/deploy/agent.env");
        machine.power_off();
        machine
    })
}

/// What the image is made of.
fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = vec![fs::read(package()).expect("read the package")];
    let files = fs::read_dir(source("packer/provision")).expect("list the scripts").flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    inputs.extend(files.iter().map(|file| fs::read(file).expect("read a script")));
    if std::env::var("IMAGE").is_ok_and(|image| image == "kept") {
        return inputs;
    }
    inputs.push(process::id().to_string().into_bytes());
    inputs
}

/// Provisions a machine twice; the second run must change nothing.
fn provision(debian: &Image) -> Instance {
    let fleet = Fleet::of_a_machine();
    let packer = Packer::get();
    let machine = fleet.launch(debian, 11).instance;
    let variables = Variables { frameworks: FRAMEWORKS, ..Variables::default() };
    packer.admit(&machine);
    packer.build(&machine, variables);
    let first = files_of(&machine);
    packer.admit(&machine);
    packer.build(&machine, variables);
    let second = files_of(&machine);
    let changed: Vec<_> = first.symmetric_difference(&second).collect();
    assert!(changed.is_empty(), "the second run changes files: {changed:#?}");
    machine.power_off();
    machine
}

/// Describes all files of the machine.
fn files_of(machine: &Instance) -> BTreeSet<String> {
    machine.push(source("tests/packer.sh"), "/run/check/tests/packer.sh");
    machine.sh("/run/check/tests/packer.sh --snapshot /run/snapshot");
    let snapshot = String::from_utf8_lossy(&machine.read("/run/snapshot")).into_owned();
    snapshot.lines().map(str::to_owned).collect()
}
