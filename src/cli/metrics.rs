//! `deploy metrics`: prints the metrics, or writes them to a file.

use super::args::MetricsArgs;
use super::client::Client;
use super::print;
use crate::store;
use model::error::{Error, Exit, Result};
use model::text::for_terminal;
use std::path::Path;

pub async fn metrics(args: MetricsArgs) -> Result<Exit> {
    let text = Client::new()?.get_text("/v1/metrics").await?;
    match args.output {
        None => print(&for_terminal(&text)),
        Some(path) => write(&path, &text).map(|()| Exit::Done),
    }
}

/// Replaces the file at once: a collector reads all of it or the one before.
fn write(path: &Path, text: &str) -> Result<()> {
    let what = || format!("write the metrics to {}", path.display());
    // A device or a link would be replaced as well.
    let is_other = path.symlink_metadata().is_ok_and(|found| !found.is_file());
    if is_other || path.file_name().is_none() {
        let error = Error::usage(what()).because("that is no file");
        return Err(error.help("name a file, or leave out --output to print the metrics"));
    }
    store::write_report(path, text).map_err(|error| {
        let help = "name a file in a directory that exists and that you may write to";
        Error::failed(what()).because(error).help(help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_and_can_be_read_by_the_collector() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deploy.prom");
        for text in ["a 1\n", "b 2\n"] {
            write(&path, text).expect("a file");
            assert_eq!(fs::read_to_string(&path).expect("the file"), text);
        }
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1);
    }

    #[test]
    fn an_error_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = write(&dir.path().join("gone/deploy.prom"), "").expect_err("no directory");
        assert!(error.chain().contains("gone/deploy.prom"), "{}", error.chain());
        assert!(error.advice().is_some_and(|help| help.contains("a directory that exists")));
        for path in ["/", "/dev/stdout", "/dev/null"] {
            assert_eq!(write(Path::new(path), "").expect_err(path).exit(), Exit::Usage);
        }
    }
}
