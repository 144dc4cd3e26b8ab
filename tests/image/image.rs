//! How the image is made: Packer provisions a machine, and its disk is frozen.

use crate::debian;
use crate::fleet::Fleet;
use crate::packer::{Packer, source};
use std::collections::BTreeSet;
use std::fs;
use std::process;
use std::sync::OnceLock;
use testkit::instance::{Image, Instance, package};

const FRAMEWORKS: &str = "node,python,ruby,java";

/// Returns the image, which is built once in a run: from nothing, or with IMAGE=kept only if the
/// scripts or the package have changed since the last run.
pub fn image() -> Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| debian::fresh().frozen("image", inputs(), provision)).clone()
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
    packer.admit(&machine);
    packer.build(&machine, FRAMEWORKS);
    let first = files_of(&machine);
    packer.admit(&machine);
    packer.build(&machine, FRAMEWORKS);
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
