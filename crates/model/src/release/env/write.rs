//! Variables as a systemd EnvironmentFile.

/// Writes one `NAME="value"` per variable, for the parser that systemd.exec(5) describes under
/// `EnvironmentFile=`: inside double quotes a backslash unescapes `"`, `\`, a backquote and
/// `$`, and every other byte is literal, line breaks and carriage returns included.
pub(super) fn environment_file<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut file = String::new();
    for (name, value) in variables {
        file.push_str(name);
        file.push_str("=\"");
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '`' | '$') {
                file.push('\\');
            }
            file.push(c);
        }
        file.push_str("\"\n");
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::env::Env;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A model of systemd's EnvironmentFile parser, as far as it matters for quoted values:
    /// written from its behaviour, state by state, to check the writer against.
    fn as_systemd_reads(file: &str) -> Vec<(String, String)> {
        enum State {
            Key,
            BeforeValue,
            Bare,
            Quoted,
            Escaped,
        }
        let mut read = Vec::new();
        let (mut key, mut value, mut state) = (String::new(), String::new(), State::Key);
        for c in file.chars() {
            state = match (state, c) {
                (State::Key, '=') => State::BeforeValue,
                (State::Key, c) => {
                    key.push(c);
                    State::Key
                }
                (State::BeforeValue | State::Bare, '\n' | '\r') => {
                    read.push((std::mem::take(&mut key), std::mem::take(&mut value)));
                    State::Key
                }
                (State::BeforeValue, '"') => State::Quoted,
                (State::BeforeValue | State::Bare, c) => {
                    value.push(c);
                    State::Bare
                }
                (State::Quoted, '"') => State::BeforeValue,
                (State::Quoted, '\\') => State::Escaped,
                (State::Quoted, c) => {
                    value.push(c);
                    State::Quoted
                }
                (State::Escaped, c) => {
                    if !"\"\\`$\n".contains(c) {
                        value.push('\\');
                    }
                    if c != '\n' {
                        value.push(c);
                    }
                    State::Quoted
                }
            };
        }
        assert!(matches!(state, State::Key) && key.is_empty(), "an unfinished line");
        read
    }

    #[test]
    fn leaves_out_variables_that_the_agent_sets() {
        let env = Env::parse(b"B=2 PORT=3 A='x y'").unwrap();
        assert_eq!(env.to_environment_file(&["PORT", "PS"]), "A=\"x y\"\nB=\"2\"\n");
    }

    proptest! {
        #[test]
        fn systemd_and_bash_read_back_what_was_written(
            variables in proptest::collection::btree_map(
                "[A-Za-z]{2,9}",
                "([\"\\\\`$'# \t\r\n\u{1}é!;=]|[^\0\u{fdd0}-\u{fdef}\u{fffe}\u{ffff}\u{10000}-\u{10ffff}]){0,9}",
                0..5,
            ),
        ) {
            let pairs = || variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let file = environment_file(pairs());
            let read: BTreeMap<String, String> = as_systemd_reads(&file).into_iter().collect();
            prop_assert_eq!(&read, &variables);
            let env = Env::parse(file.as_bytes()).unwrap();
            prop_assert_eq!(env.iter().collect::<Vec<_>>(), pairs().collect::<Vec<_>>());
        }
    }
}
