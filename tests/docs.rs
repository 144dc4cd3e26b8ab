//! The commands in the pages of `docs/`: every block marked `sh` of a page runs on a booted
//! instance, in the page's order. Blocks that need AWS or another machine are marked `text`.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

use std::path::Path;
use testkit::host::Host;

/// The pages with such blocks, in the order of `docs/README.md`. Each page is a user of the
/// same instance, whose apps are removed after it.
const PAGES: [&str; 8] = [
    "first-release",
    "migrations",
    "config",
    "load-balancers",
    "scaling",
    "several-apps",
    "ci",
    "when-it-fails",
];

/// Stands in for the bucket `releases`: uploads go to a directory, from which root deploys.
const AWS: &str = "#!/bin/bash -eu
[ \"$1 $2\" = 's3 cp' ]
to=${4/#s3:\\/\\/releases\\//\\/srv\\/releases\\/}
mkdir -p \"$(dirname \"$to\")\"
cat \"${3/#-//dev/stdin}\" >\"$to\"
";

#[test]
fn the_commands_of_the_pages_do_what_the_pages_say() {
    let host = Host::boot();
    host.configure("DEPLOY_SETTLE=0s\n");
    host.write("/usr/local/bin/aws", AWS);
    host.sh("chmod 755 /usr/local/bin/aws; mkdir /root/docs");
    for page in PAGES {
        let path = format!("docs/{page}.md");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let blocks = blocks(&text);
        assert!(!blocks.is_empty(), "{page}.md has no block marked sh");
        for block in blocks {
            run(&host, page, &block);
        }
        let apps = host.json(&["status", "--json"]);
        for app in apps.as_array().expect("a list of apps") {
            let app = app["app"].as_str().expect("a name");
            host.deploy(&["remove", app, "--yes"]).exits(0);
        }
    }
}

/// Runs a block in a directory that all blocks share.
#[track_caller]
fn run(host: &Host, page: &str, block: &str) {
    let script = block.replace("deploy s3://releases/", "deploy file:///srv/releases/");
    let script = script.replace("plan s3://releases/", "plan file:///srv/releases/");
    let script = script.replace("sudo ", "");
    let script = format!("cd /root/docs; {script}");
    let output = host.exec(&["bash", "-euo", "pipefail", "-c", &script]);
    println!("--- {page}.md\n{block}\n{}{}", output.stderr, output.stdout);
    assert_eq!(output.status, Some(0), "{page}.md:\n{block}\n{}{}", output.stderr, output.stdout);
}

/// Returns the content of the blocks that are marked `sh`.
fn blocks(page: &str) -> Vec<String> {
    let blocks = page.split("\n```sh\n").skip(1);
    blocks.map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect()
}
