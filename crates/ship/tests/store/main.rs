//! The program against an S3: moto's, by tests/aws. `make ship` runs it.

#![allow(clippy::disallowed_methods, reason = "it starts programs")]

mod bench;
mod instance;
mod package;
mod systems;

use bench::Bench;
use std::thread;

const ENV: &str = "# Shop\nexport NAME=hats # for now\n";

/// The first day of an app, in the words of docs/ship.md.
#[test]
fn from_a_commit_to_a_promoted_release() {
    let bench = Bench::new();
    assert_eq!(
        bench.ok(&["releases", "staging"]),
        "shop/staging has no release; `ship release staging` makes one\n"
    );
    bench.ok(&["config", "-e", "staging", "set", "NAME=hats", "DEPLOY_SETTLE=1s"]);
    assert_eq!(bench.ok(&["config", "get", "-e", "staging"]), "DEPLOY_SETTLE\nNAME\n");
    assert_eq!(bench.ok(&["config", "get", "-e", "staging", "NAME"]), "hats\n");
    assert_eq!(bench.ok(&["release", "staging", "--tag"]), "r1\n");
    assert_eq!(bench.git(&["cat-file", "-t", "r1"]), "tag");
    bench.put("shop/staging/current", "r1\n");
    let listed = bench.ok(&["releases", "staging"]);
    assert!(
        listed.contains("*  r1 ") && listed.contains("Ada") && listed.contains("ready"),
        "{listed}"
    );

    bench.put("shop/production/env", ENV);
    assert_eq!(bench.ok(&["promote", "staging", "production"]), "r1\n");
    assert_eq!(bench.text("shop/production/r1/env"), ENV);
    let archive = |key: &str| bench.get(&format!("shop/{key}/source.tar.zst")).unwrap();
    assert_eq!(archive("production/r1"), archive("staging/r1"));

    let out =
        bench.run_with(&["config", "-e", "production", "set", "KEY", "--release"], "it's $1\n");
    assert_eq!((out.code, out.stdout.as_str()), (0, "r2\n"), "{}", out.stderr);
    assert!(!out.stderr.contains("it's"), "{}", out.stderr);
    assert_eq!(bench.text("shop/production/env"), format!("{ENV}export KEY=\"it's \\$1\"\n"));
    assert_eq!(bench.text("shop/production/r2/env"), bench.text("shop/production/env"));
    assert_eq!(archive("production/r2"), archive("staging/r1"));
    assert_eq!(bench.ok(&["config", "-e", "production", "diff", "r1"]), "+ KEY\n");
    bench.ok(&["config", "-e", "production", "unset", "KEY"]);
    assert_eq!(bench.text("shop/production/env"), ENV);
}

#[test]
fn eight_releases_at_once_get_eight_numbers() {
    let bench = Bench::new();
    let mut numbers: Vec<String> = thread::scope(|scope| {
        let release = || bench.ok(&["release", "production"]).trim().to_owned();
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(release)).collect();
        runs.into_iter().map(|run| run.join().expect("a release")).collect()
    });
    numbers.sort();
    assert_eq!(numbers, (1..=8).map(|n| format!("r{n}")).collect::<Vec<_>>());
    let json = bench.ok(&["releases", "production", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let sums: Vec<_> = (0..8).map(|n| &listed[n]["archive"]["sha256"]).collect();
    assert!(sums.iter().all(|sum| sum.is_string() && *sum == sums[0]), "{json}");
}

#[test]
fn a_large_archive_is_uploaded_in_parts_and_is_the_same() {
    let bench = Bench::new();
    let noise = bench.noise("noise", 40 << 20);
    bench.git(&["add", "--all"]);
    bench.git(&["commit", "--quiet", "--message", "Add noise"]);
    assert_eq!(bench.ok(&["release", "production"]), "r1\n");
    let files = bench.unpack("shop/production/r1/source.tar.zst");
    assert!(std::fs::read(files.path().join("noise")).expect("the file") == noise);
    let sums = bench.text("shop/production/r1/SHA256SUMS");
    let archive = bench.get("shop/production/r1/source.tar.zst").unwrap();
    assert!(sums.contains(&bench::sha256(&archive)), "{sums}");
}

#[test]
fn failures_have_exit_codes_and_say_what_to_do() {
    let bench = Bench::new();
    let failed = |words: &[&str]| {
        let out = bench.run(words);
        assert_eq!(out.stdout, "", "{words:?}");
        assert!(out.stderr.contains("help: "), "{words:?}: {}", out.stderr);
        (out.code, out.stderr)
    };
    bench.put("shop/production/env", "A=1\nB=se cret\n");
    let (code, text) = failed(&["release", "production"]);
    assert_eq!(code, 10);
    assert!(text.contains("shop/production: line 2, column 6: not an assignment"), "{text}");
    assert!(!text.contains("cret"), "{text}");
    assert_eq!(bench.get("shop/production/r1/release.json"), None);
    assert_eq!(failed(&["config", "-e", "production", "set", "1=2"]).0, 2);
    assert_eq!(failed(&["promote", "staging", "production"]).0, 10);
    assert_eq!(failed(&["releases", "production", "--store", "s3://nowhere"]).0, 11);
    bench.write("uncommitted", "");
    assert_eq!(failed(&["release", "staging"]).0, 2);

    bench.ok(&["lock", "staging", "-m", "Black Friday"]);
    let (code, text) = failed(&["lock", "staging", "-m", "x", "--by", "Bob"]);
    assert!(
        code == 40 && text.contains("Ada has locked it") && text.contains("Black Friday"),
        "{text}"
    );
    bench.ok(&["unlock", "staging"]);

    let out = bench.unreachable(&["releases", "staging"]);
    assert_eq!(out.code, 41, "{}", out.stderr);
    assert!(out.stderr.contains("Connection refused") && out.stderr.len() < 400, "{}", out.stderr);
    let out = bench.without_credentials(&["releases", "staging", "--json"]);
    assert_eq!(out.code, 11, "{}", out.stdout);
    assert!(out.stdout.contains("credentials_missing"), "{}", out.stdout);
    let out = bench.run(&["promote", "staging", "production", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out.stdout).expect("JSON");
    assert_eq!((&json["code"], &json["reason"]), (&10.into(), &"release_missing".into()));
}

#[test]
fn an_edit_leaves_no_file_behind() {
    let bench = Bench::new();
    bench.put("shop/production/env", ENV);
    let editor =
        "f() { stat -c '%a %n' \"$1\" >>seen; echo 'export NEW=1' >>\"$1\"; touch \"$1~\"; }; f";
    let edited = bench.run_as_editor(editor, &["config", "-e", "production", "edit"]);
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    assert_eq!(bench.text("shop/production/env"), format!("{ENV}export NEW=1\n"));
    let refused = "f() { stat -c '%a %n' \"$1\" >>seen; echo 'B=$(x)' >>\"$1\"; }; f";
    assert_eq!(bench.run_as_editor(refused, &["config", "-e", "production", "edit"]).code, 10);
    let gives_up = "f() { stat -c '%a %n' \"$1\" >>seen; exit 3; }; f";
    assert_eq!(bench.run_as_editor(gives_up, &["config", "-e", "production", "edit"]).code, 1);
    assert_eq!(bench.text("shop/production/env"), format!("{ENV}export NEW=1\n"));
    let seen = bench.read("seen");
    assert_eq!(seen.lines().count(), 3);
    for line in seen.lines() {
        let (mode, path) = line.split_once(' ').expect("two words");
        assert_eq!(mode, "600");
        assert!(!std::path::Path::new(path).parent().expect("a directory").exists(), "{path}");
    }
}

#[test]
fn openssh_verifies_a_signed_release() {
    let bench = Bench::new();
    let key = bench.key("id");
    assert_eq!(bench.ok(&["release", "production", "--sign", "id"]), "r1\n");
    let verify =
        |principal: &str, sums: &str| bench.verify(&key, principal, "shop/production/r1", sums);
    let sums = bench.text("shop/production/r1/SHA256SUMS");
    assert!(verify("ada@example", &sums));
    assert!(!verify("bob@example", &sums));
    assert!(!verify("ada@example", &sums.replace("env", "vne")));
    // The signature says for which release it is.
    assert!(sums.starts_with("# shop/production/r1\n"), "{sums}");
    assert!(!verify("ada@example", &sums.replace("/r1", "/r2")));
    let out = bench.run(&["release", "production", "--sign", "nothing"]);
    assert_eq!(out.code, 2);
    // A colleague without the key that ship.toml names can still look.
    bench.write("ship.toml", "app = \"shop\"\nsign = \"theirs\"\n[environments.production]\n");
    bench.ok(&["releases"]);
    bench.ok(&["config", "set", "A=1"]);
    assert_eq!(bench.run(&["release", "--source", "HEAD"]).code, 2);
    assert_eq!(bench.get("shop/production/r2/release.json"), None);
}
