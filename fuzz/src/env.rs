//! Checks an env file: the place of a refusal, that no error contains a value, and that the
//! file written for systemd means the same.

use super::said::{self, SECRET};
use model::release::ParseError;
use model::release::env::Env;

/// The most places of one file at which a secret is inserted.
const PLACES: usize = 48;
/// The limit of execve(2), and of the parser.
const LONGEST_VARIABLE: usize = 128 * 1024;

pub fn env(data: &[u8]) -> bool {
    let read = Env::parse(data);
    match &read {
        Ok(env) => check(env),
        Err(error) => said::check_place(error, data),
    }
    a_line_before_it_changes_nothing(data, &read);
    no_error_repeats_a_secret(data, &read);
    read.is_ok()
}

fn check(env: &Env) {
    for (name, value) in env.iter() {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        assert!(name.bytes().all(word) && !name.starts_with(|c: char| c.is_ascii_digit()));
        assert!(!name.is_empty() && !value.contains('\0'), "{name:?}");
        assert!(
            name.len() + 1 + value.len() < LONGEST_VARIABLE,
            "{name} is too long to be passed on"
        );
    }
    let written = env.to_environment_file(&[]);
    assert_eq!(Env::parse(written.as_bytes()).as_ref(), Ok(env), "{written:?}");

    let names: Vec<&str> = env.names().collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    assert_eq!(format!("{env:?}"), format!("Env{{{}}}", quoted.join(", ")));
    if let [first, rest @ ..] = names.as_slice() {
        let without = Env::parse(env.to_environment_file(&[first]).as_bytes()).expect("a part");
        assert!(without.names().eq(rest.iter().copied()));
    }
}

fn a_line_before_it_changes_nothing(data: &[u8], read: &Result<Env, ParseError>) {
    let later = Env::parse(&[b"# before it\n", data].concat());
    let expected = match read {
        Err(error) => Err(ParseError { line: error.line + 1, ..error.clone() }),
        Ok(env) => Ok(env.clone()),
    };
    assert_eq!(later, expected);
}

/// Checks that no error contains a secret, wherever it stands, as a value or as other text.
fn no_error_repeats_a_secret(data: &[u8], read: &Result<Env, ParseError>) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains(SECRET) {
        return;
    }
    let step = text.len() / PLACES + 1;
    let spread = (0..=text.len()).step_by(step).filter(|at| text.is_char_boundary(*at));
    let refused = read.as_ref().err().map(|error| offset(text, error));
    for at in spread.chain(refused) {
        let (before, after) = text.split_at(at);
        if let Err(error) = Env::parse(format!("{before}{SECRET}{after}").as_bytes()) {
            assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
        }
    }
}

/// The place of an error, as an offset in bytes.
fn offset(text: &str, error: &ParseError) -> usize {
    let lines = text.split_inclusive('\n').take(error.line - 1);
    let start: usize = lines.map(str::len).sum();
    start + text[start..].chars().take(error.column - 1).map(char::len_utf8).sum::<usize>()
}
