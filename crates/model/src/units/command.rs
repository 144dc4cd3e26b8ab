//! Renders a Procfile's command as systemd's `ExecStart=`.

/// Words with a meaning in bash itself: `exec` would look for a program of that name instead.
/// bash(1), RESERVED WORDS and SHELL BUILTIN COMMANDS.
const SHELL_WORDS: &str = ". : [ [[ alias bg bind break builtin caller case cd command compgen \
    complete compopt continue coproc declare dirs disown do done echo elif else enable esac eval \
    exit export false fc fg fi for function getopts hash help history if jobs kill let local \
    logout mapfile popd printf pushd pwd read readarray readonly return select set shift shopt \
    source suspend test then time times trap true type typeset ulimit umask unalias unset until \
    wait while";

/// Puts `exec` before a single simple command, so that no shell stays between systemd and the
/// app. Any other command is left as it is: `exec` breaks `a && b`, `X=1 cmd` and `cd d; cmd`.
pub(super) fn shell(command: &str) -> String {
    let first = command.split_ascii_whitespace().next().unwrap_or_default();
    match is_simple(command) && first != "exec" {
        true => format!("exec {command}"),
        false => command.to_owned(),
    }
}

/// Whether the text is surely one simple command in bash's grammar: a literal program name and
/// words.
fn is_simple(command: &str) -> bool {
    let mut words = command.split_ascii_whitespace();
    let mut program = words.next().unwrap_or_default();
    if program == "exec" {
        program = words.next().unwrap_or_default();
    }
    let literal = |c: char| c.is_ascii_alphanumeric() || "_./+-".contains(c);
    let named = !program.is_empty() && program.chars().all(literal) && !program.starts_with('-');
    let own = SHELL_WORDS.split_ascii_whitespace().any(|word| word == program);
    named && !own && has_only_words(command)
}

fn has_only_words(command: &str) -> bool {
    let mut chars = command.chars().peekable();
    let mut quote = None;
    let mut starts_word = true;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '`') => return false,
            (_, '$') if matches!(chars.peek(), Some('(' | '\'' | '"')) => return false,
            (_, '$') if chars.peek() == Some(&'{') => {
                let mut name = chars.by_ref().skip(1).take_while(|c| *c != '}');
                if !name.all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return false;
                }
            }
            (_, '\\') if chars.next().is_none() => return false,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '{' | '}' | '!' | '\n') => {
                return false;
            }
            (None, '#') if starts_word => return false,
            (None, _) => {}
        }
        starts_word = quote.is_none() && c.is_ascii_whitespace();
    }
    quote.is_none()
}

/// Quotes one argument of `ExecStart=:` so that systemd passes exactly these bytes:
/// systemd.syntax(7) for `\`, systemd.unit(5) for `%`; the `:` before the program keeps `$`
/// literal.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\\' | '"' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Command, Output};

    #[test]
    fn exec_only_before_one_simple_command() {
        let simple = [
            "node server.js",
            "./bin/web --port $PORT",
            "python3 -m http.server \"$PORT\" --bind 0.0.0.0",
            "gunicorn app:app -b 0.0.0.0:${PORT} --access-logformat '%(h)s %(r)s; {x}'",
            "echo-server a\\ b 'c d' # not at all",
        ];
        for command in &simple[..4] {
            assert_eq!(shell(command), format!("exec {command}"));
        }
        assert_eq!(shell("exec node x"), "exec node x");
    }

    #[test]
    fn no_exec_before_commands_that_it_would_break() {
        let others = "a && b;a | b;X=1 cmd;cd d;exec;exec -a x cmd;$CMD x;\"my program\";~/bin/x;\
            a $(b);a `b`;a > log;{ a};(a);while x;! a;echo x;time a;a &;a # comment;a 'b;a $'b';\
            a {b,c};source x;a ${B:-c};a \\;coproc a;[ a ]";
        for command in others.split(';').chain(["cd d; cmd", "a; b"]) {
            assert_eq!(shell(command), command);
        }
    }

    #[test]
    fn quotes_every_character_that_systemd_interprets() {
        assert_eq!(quote(r#"a "b" \c %d $e"#), r#""a \"b\" \\c %%d $e""#);
    }

    /// Parses one argument as systemd does: quotes and C escapes first, then specifiers.
    /// Written from systemd.syntax(7) and systemd.unit(5).
    fn as_systemd_reads(argument: &str) -> String {
        let mut chars = argument.chars();
        assert_eq!(chars.next(), Some('"'));
        let mut unquoted = String::new();
        loop {
            match chars.next().expect("a closing quote") {
                '"' => break,
                '\n' => panic!("a unit file's line ends here"),
                '\\' => unquoted.push(match chars.next().expect("an escape") {
                    't' => '\t',
                    c @ ('\\' | '"') => c,
                    other => panic!("\\{other} is not an escape that is needed"),
                }),
                c => unquoted.push(c),
            }
        }
        assert_eq!(chars.as_str(), "", "a second argument");
        let mut parts = unquoted.split("%%");
        let whole = |part: &str| assert!(!part.contains('%'), "a specifier in {part}");
        parts.clone().for_each(whole);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + "%" + part)
    }

    #[expect(clippy::disallowed_methods, reason = "the reference is bash itself")]
    fn bash(script: &str, dir: &std::path::Path) -> Output {
        let mut bash = Command::new("/bin/bash");
        bash.args(["-c", script]).env_clear().env("PATH", "").env("X", "x  y; z");
        bash.current_dir(dir).output().expect("bash")
    }

    /// Generates mostly harmless words. They contain no `>`: a test must not write to a file.
    fn word() -> impl Strategy<Value = String> {
        let sample = |words: &'static str| {
            prop::sample::select(words.split(' ').collect::<Vec<_>>())
                .prop_map(|word| word.replace('_', " "))
        };
        prop_oneof![
            8 => "[ \ta-c*?=~%é]{1,3}",
            4 => "'[ a;#$\"]{0,3}'|\"[ a;#']{0,3}\"|\\\\[ a;#'\"$&|]",
            2 => sample("$X ${X} \"$X\" $ #a a# [a ]"),
            1 => sample("; & | # _# ( ) { } {a,b} < ! ` ' \" \\ $' $( ${X:-y} && || _X=1_ _then_"),
        ]
    }

    proptest! {
        #[test]
        fn systemd_reads_back_what_was_quoted(
            script in "([\\\\\"'%$`; \tnt]|[^\0-\u{8}\n-\u{1f}\u{7f}-\u{9f}]){0,80}",
        ) {
            prop_assert_eq!(as_systemd_reads(&quote(&script)), script);
        }

        #[test]
        fn exec_changes_nothing_that_a_simple_command_does(
            words in prop::collection::vec(word(), 0..8),
        ) {
            let command = format!("/usr/bin/printf [%s] {}", words.concat());
            let script = shell(&command);
            // `$$` differs in each run.
            if script != command && !command.contains("$$") {
                let dir = tempfile::tempdir().unwrap();
                let (ours, plain) = (bash(&script, dir.path()), bash(&command, dir.path()));
                prop_assert_eq!((ours.status, ours.stdout), (plain.status, plain.stdout));
            }
        }
    }
}
