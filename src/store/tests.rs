//! What the store promises about the disk.

use super::*;

#[test]
fn an_empty_directory_holds_no_app() {
    let root = tempfile::tempdir().expect("a temporary directory");
    assert!(Store::at(root.path()).apps().expect("read").is_empty());
    assert!(Store::at(root.path().join("missing")).apps().expect("read").is_empty());
}
