//! `make demo`: an instance, an S3 beside it, and an operator's usual commands. Shows the real
//! commands with their real output; anything unexpected ends it with an error.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

use std::fs;
use std::path::Path;
use testkit::app::Release;
use testkit::instance::{Image, Instance, Network};
use testkit::s3::S3Server;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/python");

const SETTINGS: &str = "\
AWS_ENDPOINT_URL=http://10.77.0.1:9000
AWS_REGION=eu-central-1
AWS_ACCESS_KEY_ID=AKIDEXAMPLE
AWS_SECRET_ACCESS_KEY=of-the-demo
DEPLOY_HEALTH_TIMEOUT=10s
";

fn main() {
    say("A Debian 12 instance with the package installed; an S3 beside it with three");
    say("releases of examples/python: r1, r2, and r3, whose web process ends at once.");
    let network = Network::new();
    let s3 = S3Server::from_listener(network.listen(9000), "AKIDEXAMPLE", "of-the-demo");
    for release in [example("r1"), example("r2"), broken(example("r3"))] {
        release.publish_as(&s3, "hello");
    }
    let host = network.instance().image(&Image::with_agent()).boot();
    host.write("/etc/deploy/agent.env", SETTINGS);
    host.exec(&["systemctl", "restart", "deployd"]).ok();

    say("\nThe first release comes, and the second one replaces it.\n");
    run(&host, "deploy s3://releases/hello/production/r1", 0, "deployed hello r1");
    run(&host, "curl -sS http://localhost:5000/", 0, "Hello from r1");
    run(&host, "deploy s3://releases/hello/production/r2", 0, "deployed hello r2");
    run(&host, "curl -sS http://localhost:5000/", 0, "Hello from r2");
    run(&host, "deploy status", 0, "hello (production): r2, good, healthy");

    say("\nThe third one is broken: it is refused, and r2 serves.\n");
    run(&host, "deploy s3://releases/hello/production/r3", 12, "r2 runs on");
    run(&host, "curl -sS http://localhost:5000/", 0, "Hello from r2");

    say("\nS3 goes away. To go back, it is not needed.\n");
    drop(s3);
    run(&host, "deploy rollback", 0, "rolled back to hello r1");
    run(&host, "curl -sS http://localhost:5000/", 0, "Hello from r1");
    run(&host, "deploy logs web -n 1000 | grep -v /health", 0, "r1 listens on port 29000");
    run(&host, "deploy history", 0, "rollback");
    say("\nAll of it was as expected; the instance is gone.");
}

fn say(text: &str) {
    println!("{text}");
}

/// Runs a command line, shows it with its output, and checks its exit code and a text that it
/// has to print.
fn run(host: &Instance, line: &str, code: i32, expected: &str) {
    println!("$ {line}");
    let ran = host.exec(&["bash", "-c", &format!("{line} 2>&1")]);
    print!("{}", ran.stdout);
    if code != 0 {
        println!("(exit code {code})");
    }
    println!();
    let ran = ran.exits(code);
    assert!(ran.stdout.contains(expected), "`{line}` does not print {expected:?}");
}

/// Creates a release of this name from the example.
fn example(name: &str) -> Release {
    let read = |path: &Path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let example = Path::new(EXAMPLE);
    let release = Release::empty(name).env(read(&example.join("env")));
    let files = fs::read_dir(example.join("app")).expect("the example's app");
    let release = files.fold(release, |release, file| {
        let path = file.expect("a file of the example").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        release.file(&name, read(&path))
    });
    release.file("VERSION", format!("{name}\n"))
}

fn broken(release: Release) -> Release {
    release.file("web.py", "raise SystemExit('no database at db.example.com:5432')\n")
}
