//! The texts of a release: each mistake in its Procfile or env is reported with line and
//! column, and no error contains a value of env.

use super::{GOOD, World, gzip};
use testkit::app::url;
use testkit::archive::*;

/// Part of every refused env: no error may quote it.
pub const SECRET: &str = "hunter2-and-more";

impl World {
    fn refuses_procfile(&self, what: &str, procfile: Vec<u8>, says: &str) {
        let tar = archive(&[file("other", b"x"), procfile]);
        self.refused(what, ("source.tar.gz", gzip(&tar)), Vec::new(), says);
    }

    fn refuses_env(&self, what: &str, env: impl Into<Vec<u8>>, says: &str) {
        let tar = archive(&[file("Procfile", GOOD)]);
        self.refused(what, ("source.tar.gz", gzip(&tar)), env.into(), says);
    }
}

#[test]
fn refuses_odd_procfiles() {
    let world = World::new();
    let text = |text: &str| file("Procfile", text.as_bytes());
    let cases = [
        ("absent", file("README", b""), "the archive has none"),
        ("below a directory", file("app/Procfile", GOOD), "the archive has none"),
        ("a symlink", symlink("Procfile", "other"), "it is a symbolic link; it must be a file"),
        ("a directory", directory("Procfile"), "it is not a file"),
        (
            "empty",
            text(""),
            "Procfile of s3://releases/my-app/production/bad: line 1, column 1: no service",
        ),
        ("duplicate", text("web: a\n\nweb: b\n"), "line 3, column 1: a second line for `web`"),
        (
            "binary",
            file("Procfile", b"web: \x7fELF\xff\xfe\n"),
            "line 1, column 10: not UTF-8 text",
        ),
        ("NUL", text("web: a\nx: b\0c\n"), "line 2, column 5: a NUL byte"),
        ("escapes", text("web: a\nx: \x1b[2J\n"), "line 2, column 4: a control character"),
        ("no colon", text("web: a\njust words\n"), "line 2, column 1: not a process"),
        ("no command", text("web:\n"), "line 1, column 5: no command for `web`"),
        ("huge", file("Procfile", &[b'#'; 65 << 10]), "it is larger than 65536 bytes"),
        (
            "a long command",
            text(&format!("web: {}\n", "x".repeat(33 << 10))),
            "line 1, column 1: a command of more than 32 KiB",
        ),
        (
            "too many types",
            text(&(0..101).map(|n| format!("t{n}: x\n")).collect::<String>()),
            "line 101, column 1: more than 100 process types",
        ),
        ("a build that fails", text("web: a\nbuild: echo no; exit 3\n"), "exit status 3"),
    ];
    for (what, procfile, says) in cases {
        world.refuses_procfile(what, procfile, says);
    }
    let error = world.host.deploy(&[&url("bad")]).exits(10).stderr;
    assert!(error.contains("  | no\n") && error.contains("help: "), "{error}");
}

#[test]
fn refuses_env_files_that_are_more_than_assignments() {
    let world = World::new();
    let cases = [
        ("a command", "export A=1\nrm -rf /\n", "line 3, column 1: not an assignment"),
        ("a substitution", "export A=$(id >/srv/sentinel)\n", "line 2, column 10: a command"),
        ("backquotes", "export A=\"x`id`\"\n", "line 2, column 12: a command"),
        ("arithmetic", "export A=$((1+1))\n", "line 2, column 10: a command"),
        ("an array", "A=(1 2)\n", "line 2, column 3: an array"),
        ("an expansion", "export A=${B:-x}\n", "line 2, column 10: an expansion"),
        ("an unknown name", "export A=$B\n", "line 2, column 10: a variable"),
        ("a redirection", "export A=1 >/srv/sentinel\n", "line 2, column 12: not an assignment"),
        ("no closing quote", "export B=2\nexport A='x\ny\n", "line 3, column 10: this '"),
        ("a carriage return", "export A=x\r\n", "line 2, column 11: a carriage return"),
        ("bash's own", "export PATH=/x\nexport BASH_ENV=/x\n", "BASH_… means something to bash"),
        ("the agent's", "export DEPLOY_STATE_DIR=/srv\n", "this setting belongs to the agent"),
        (
            "an unknown setting",
            "export DEPLOY_SETLE=1s\n",
            "DEPLOY_SETLE: no setting has this name",
        ),
        ("a bad value", "export DEPLOY_SETTLE=soon\n", "DEPLOY_SETTLE"),
        ("a path", "export DEPLOY_WRITABLE=../..\n", "DEPLOY_WRITABLE"),
        ("a formation", "export DEPLOY_CONCURRENCY=wbe=2\n", "names wbe"),
    ];
    for (what, env, says) in cases {
        world.refuses_env(what, format!("export SECRET={SECRET}\n{env}"), says);
    }
    let long = |length: usize| format!("export SECRET={SECRET}{}\n", "x".repeat(length));
    world.refuses_env("a long value", long(128 << 10), "longer than the 131071 bytes");
    let all = (0..6).map(|n| long(100 << 10).replace("SECRET", &format!("S{n}")));
    world.refuses_env("too much", all.collect::<String>(), "longer than 512 KiB together");
    let huge = vec![b'\n'; (1 << 20) + 1];
    world.refuses_env("a huge file", huge, "1048577 bytes long; at most 1048576 bytes are read");
    world.refuses_env("NUL", format!("export SECRET={SECRET}\0\n"), "a NUL byte");
    world.refuses_env("not UTF-8", b"export A=\xff\n".to_vec(), "line 1, column 10: not UTF-8");
}
