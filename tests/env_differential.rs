//! Runs thousands of generated env files through the real bash and through our parser: every
//! file that we accept gives the same environment, byte for byte.
//!
//! Only accepted files reach bash, so that no generated text is run as a command unless the
//! parser is wrong; and even then it consists of harmless words.
//!
//! `ENV_DIFFERENTIAL_SEED=n` and `ENV_DIFFERENTIAL_FILES=n` set the seed and the number of
//! files.

#![expect(clippy::disallowed_methods, reason = "the reference is bash itself")]

use model::release::env::{Env, STANDARD_PATH};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// Compares generated files of one kind. At least `accepted_percent` of them must be accepted,
/// since otherwise the comparison would be empty.
fn compare(kind: &str, files: impl Strategy<Value = String>, accepted_percent: usize) {
    let seed = number("ENV_DIFFERENTIAL_SEED", 20_250_101);
    let count = number("ENV_DIFFERENTIAL_FILES", 2_500);
    println!("{kind}: ENV_DIFFERENTIAL_SEED={seed} ENV_DIFFERENTIAL_FILES={count}");

    let mut runner = runner(seed);
    let generated = (0..count).map(|_| files.new_tree(&mut runner).unwrap().current());
    let (mut accepted, mut refused) = (Vec::new(), BTreeMap::<String, usize>::new());
    for text in generated {
        match Env::parse(text.as_bytes()) {
            Ok(env) => accepted.push((text, env)),
            Err(error) => *refused.entry(error.what).or_default() += 1,
        }
    }
    let percent = accepted.len() * 100 / count as usize;
    println!("{kind}: {percent} % of the files accepted; refused: {refused:#?}");
    assert!(percent >= accepted_percent, "{kind}: only {percent} % accepted");
    compare_accepted(&accepted);
}

fn compare_accepted(accepted: &[(String, Env)]) {
    for batch in accepted.chunks(500) {
        let texts: Vec<&str> = batch.iter().map(|(text, _)| text.as_str()).collect();
        for ((text, env), bash) in batch.iter().zip(as_bash_reads(&texts)) {
            let ours = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let bash = without_bash_own(bash, &ours);
            assert!(ours == bash, "{}", difference(text, &ours, &bash));
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Returns the environment after `set -a; . ./env` for each text, in a separate bash without
/// any variable that the text could see; `None` if bash reports an error.
fn as_bash_reads(texts: &[&str]) -> Vec<Variables> {
    const EACH: &str = r#"while [ $# -gt 0 ]; do (set -a; . "./$1" && exec /usr/bin/env -0) >"$1.out" 2>"$1.err"; shift; done"#;
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..texts.len()).map(|n| n.to_string()).collect();
    for (name, text) in names.iter().zip(texts) {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let status = Command::new("/bin/bash")
        .args(["--norc", "--noprofile", "-c", EACH, "bash"])
        .args(&names)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", STANDARD_PATH)
        .current_dir(dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "bash: {status}");
    names.iter().map(|name| variables(&dir.path().join(format!("{name}.out")))).collect()
}

fn variables(file: &Path) -> Variables {
    let bytes = std::fs::read(file).unwrap();
    let lines = bytes.split(|b| *b == 0).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let equals = line.iter().position(|b| *b == b'=').unwrap();
            (line[..equals].to_vec(), line[equals + 1..].to_vec())
        })
        .collect()
}

/// Removes variables that a clean bash exports itself, and the locale and PATH that were passed
/// to it.
fn without_bash_own(mut bash: Variables, ours: &Variables) -> Variables {
    for own in ["PWD", "OLDPWD", "SHLVL", "_"] {
        bash.remove(own.as_bytes());
    }
    for (name, given) in [("LC_ALL", "C.UTF-8"), ("PATH", STANDARD_PATH)] {
        let name = name.as_bytes();
        let is_given = bash.get(name).is_some_and(|value| value == given.as_bytes());
        if !ours.contains_key(name) && is_given {
            bash.remove(name);
        }
    }
    bash
}

fn difference(text: &str, ours: &Variables, bash: &Variables) -> String {
    let show = |variables: &Variables| {
        let lines = variables
            .iter()
            .map(|(name, value)| format!("  {}={}\n", name.escape_ascii(), value.escape_ascii()));
        lines.collect::<String>()
    };
    format!("for the file {text:?}\nwe read\n{}bash reads\n{}", show(ours), show(bash))
}

/// A file as an operator writes it, with everything that the language has.
fn valid_file() -> impl Strategy<Value = String> {
    let known = "A=1 B='x  y' C= FOO=\"~:{a,b}\"\nexport D_1=$'\\n' E=ä\n";
    (prop::bool::weighted(0.9), prop::collection::vec(command(), 1..8)).prop_map(
        move |(knows, commands)| {
            let known = if knows { known } else { "A=0 B=1 C=2 D_1=3 E=4 FOO=5\n" };
            format!("{known}{}", commands.concat())
        },
    )
}

fn command() -> impl Strategy<Value = String> {
    let words = prop::collection::vec(prop_oneof![9 => assignment(), 1 => name()], 1..4);
    let plain = prop::collection::vec(assignment(), 1..4);
    let marks = prop_oneof![3 => Just("export"), 1 => Just("declare -x"), 1 => Just("typeset\t-x")];
    let blank = "( |\t|  |\\\\\n){1,2}";
    prop_oneof![
        1 => "( |\t){0,2}#[ -~é]{0,9}\n",
        1 => "[ \t\n]{0,3}\n",
        4 => (marks, words, blank, ending())
            .prop_map(|(marks, words, blank, end)| format!("{marks} {}{end}", words.join(&blank))),
        3 => (plain, blank, ending()).prop_map(|(words, blank, end)| format!("{}{end}", words.join(&blank))),
    ]
}

fn ending() -> impl Strategy<Value = String> {
    prop_oneof![5 => Just("\n".to_owned()), 1 => " # [a-z'\"$`]{0,5}\n", 1 => " {0,1}; {0,1}", 1 => Just(";\n".to_owned())]
}

fn assignment() -> impl Strategy<Value = String> {
    (name(), prop::collection::vec(piece(), 0..5))
        .prop_map(|(name, pieces)| format!("{name}={}", pieces.concat()))
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "A", "B", "C", "D_1", "E", "FOO", "LANG", "LC_ALL", "HOME", "PATH", "TERM", "_x", "a",
        "PWD", "SHLVL", "OLDPWD", "_",
    ])
    .prop_map(str::to_owned)
}

fn reference() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec!["A", "B", "C", "D_1", "E", "FOO", "PATH"]);
    (known, any::<bool>())
        .prop_map(|(name, braced)| if braced { format!("${{{name}}}") } else { format!("${name}") })
}

fn piece() -> impl Strategy<Value = String> {
    let in_double_quotes = prop_oneof![
        4 => "[ -!#%-\\[\\]-_a-~éß☃😀\n\r\t\u{1}\u{7f}]{1,4}",
        2 => r#"\\[$`"\\nx'é ]"#,
        1 => Just("\\\n".to_owned()),
        1 => Just("$ ".to_owned()),
        1 => Just("$'x'".to_owned()),
        2 => reference(),
    ];
    let in_ansi_c_quotes = prop_oneof![
        3 => "[ -&(-\\[\\]-~é😀\n\r\u{1}\u{7f}]{1,3}",
        3 => r#"\\[abeEfnrtv\\'"?zq]"#,
        1 => r"\\[1-7][0-7]?",
        1 => r"\\[01][0-7][1-7]",
        1 => r"\\[45][0-7][1-7]",
        1 => Just(r"\xc3\xA9\342\230\203\u00e9\u2603\U0001F600".to_owned()),
        1 => r"\\x[1-7]?[1-9a-fA-F]",
        1 => r"\\c[A-Za-z?_^\[]",
        1 => r"\\u(00[2-7][0-9A-F]|[2-7])",
        1 => r"\\U000000[2-7][0-9A-F]",
        1 => r"\\[xuU]g",
    ];
    prop_oneof![
        6 => "[A-Za-z0-9_./:=@%+^!*?\\[\\]}#é☃-]{1,5}",
        1 => "[a/=]~",
        1 => "[{,.]{1,3}",
        2 => "'[^'\0\u{fdd0}-\u{fdef}\u{fffe}-\u{10ffff}]{0,6}'",
        1 => "'[\u{1}\u{7f}\r\n\t \"$`\\\\]{0,6}'",
        4 => prop::collection::vec(in_double_quotes, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat())),
        3 => prop::collection::vec(in_ansi_c_quotes, 0..4).prop_map(|parts| format!("$'{}'", parts.concat())),
        2 => "\\\\[ -~é\t]",
        1 => Just("\\\n".to_owned()),
        3 => reference(),
        1 => "\\$[./%:=~]",
    ]
}

/// A valid file with fragments of other shell text inserted and characters removed.
fn hostile_file() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0usize..3, shell_text());
    (valid_file(), prop::collection::vec(edit, 1..4)).prop_map(|(file, edits)| {
        let mut characters: Vec<char> = file.chars().collect();
        for (at, removed, inserted) in edits {
            let from = at.index(characters.len() + 1);
            let to = (from + removed).min(characters.len());
            characters.splice(from..to, inserted.chars());
        }
        characters.into_iter().collect()
    })
}

/// Values that consist only of fragments of shell text.
fn soup() -> impl Strategy<Value = String> {
    let begin = prop::sample::select(vec!["A=", "export A=", "A=1 B=", "export A=1 B="]);
    let line = (begin, prop::collection::vec(shell_text(), 0..5));
    prop::collection::vec(
        line.prop_map(|(begin, pieces)| format!("{begin}{}\n", pieces.concat())),
        1..3,
    )
    .prop_map(|lines| format!("A=a B=b\n{}", lines.concat()))
}

fn shell_text() -> impl Strategy<Value = String> {
    let tokens = [
        "'",
        "\"",
        "\\",
        "$",
        "$'",
        "$\"",
        "`",
        "${",
        "}",
        "{",
        ",",
        "..",
        "$(",
        "(",
        ")",
        "((",
        "[",
        "]",
        "~",
        ":",
        "=",
        "+=",
        "A=",
        "B=",
        "export ",
        "export A=",
        "declare -x ",
        "declare ",
        "-x",
        "A",
        "B",
        "$A",
        "${A}",
        "${A:-x}",
        "$1",
        "$?",
        "$_",
        "#",
        " #",
        ";",
        "&",
        "|",
        "<",
        "\n",
        " ",
        "\t",
        "\\\n",
        "\r",
        "\r\n",
        "!",
        "*",
        "?",
        "é",
        "\u{1}",
        "\u{7f}",
        "\\x41",
        "\\101",
        "\\cA",
        "\\u41",
        "1",
        "x",
        "-",
        "-n",
        "\u{a0}",
        "\u{feff}",
        "~/",
        ":~",
        "A[0]=",
        "{a,b}",
        "{1..2}",
        "true",
        "LC_ALL=C ",
    ];
    prop::sample::select(tokens.map(str::to_owned).to_vec())
}

#[test]
fn equals_bash_on_files_of_the_grammar() {
    compare("grammar", valid_file(), 70);
}

#[test]
fn equals_bash_on_hostile_files() {
    compare("hostile", hostile_file(), 12);
}

#[test]
fn equals_bash_on_soup() {
    compare("soup", soup(), 20);
}

/// The fuzz target's seeds that must be accepted; the others never reach bash.
#[test]
fn equals_bash_on_the_seeds_of_the_fuzzer() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/env");
    let seeds = std::fs::read_dir(corpus).unwrap().map(|seed| seed.unwrap().path());
    let good =
        seeds.filter(|seed| seed.file_name().unwrap().to_str().unwrap().starts_with("good-"));
    let read = |seed| {
        let text = std::fs::read_to_string(seed).unwrap();
        let env = Env::parse(text.as_bytes()).unwrap();
        (text, env)
    };
    let accepted: Vec<_> = good.map(read).collect();
    assert!(!accepted.is_empty());
    compare_accepted(&accepted);
}
