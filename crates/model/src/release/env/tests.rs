use super::*;
use proptest::prelude::*;

fn variables(text: &str) -> Vec<(String, String)> {
    let env = Env::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn reads_what_operators_write() {
    for (text, expected) in [
        ("", vec![]),
        ("# a comment with ' and $(x)\r\n\n \t# more \\\n", vec![]),
        ("export A=1", vec![("A", "1")]),
        ("export\tA=1  B=\n\n  C=3 # c\n", vec![("A", "1"), ("B", ""), ("C", "3")]),
        ("A=1; export B=2;\nC=3", vec![("A", "1"), ("B", "2"), ("C", "3")]),
        ("A=1\nA=2", vec![("A", "2")]),
        ("A=a#b B=#", vec![("A", "a#b"), ("B", "#")]),
        ("A='a \"$b\" \\n\n#c' B=\"d\ne\"", vec![("A", "a \"$b\" \\n\n#c"), ("B", "d\ne")]),
        (r#"A="\$ \` \" \\ \n ' $ $'x'""#, vec![("A", "$ ` \" \\ \\n ' $ $'x'")]),
        ("A=a\\ b\\\nc\\'", vec![("A", "a bc'")]),
        ("A=\"a\\\nb\"", vec![("A", "ab")]),
        ("export \\\n A=1 \\\n B=2", vec![("A", "1"), ("B", "2")]),
        ("A=1\\\n#x", vec![("A", "1#x")]),
        (r"A=$'\x41\101\u00e9\t\'\cA\z'", vec![("A", "AAé\t'\u{1}\\z")]),
        (r"A=$'\xc3'$'\xa9'", vec![("A", "é")]),
        ("A=a'b'\"c\"$'d'\\e", vec![("A", "abcde")]),
        ("A=1\nB=$A${A}x\"$A\"'$A'", vec![("A", "1"), ("B", "11x1$A")]),
        ("A=1 B=$A", vec![("A", "1"), ("B", "1")]),
        ("A=0\nexport A=1 B=$A", vec![("A", "1"), ("B", "0")]),
        ("A=$ B=a$. C=\"$\" D=%$%", vec![("A", "$"), ("B", "a$."), ("C", "$"), ("D", "%$%")]),
        ("A={a,b}\nexport B={} C={x}", vec![("A", "{a,b}"), ("B", "{}"), ("C", "{x}")]),
        ("A=*.[ch]? B=!x C=a~ D=''~", vec![("A", "*.[ch]?"), ("B", "!x"), ("C", "a~"), ("D", "~")]),
        ("URL=https://u:p@h/~x?a=b%20c", vec![("URL", "https://u:p@h/~x?a=b%20c")]),
        ("A='line\r\nend'", vec![("A", "line\r\nend")]),
        ("export A\nexport A=1\nexport A", vec![("A", "1")]),
        (
            "declare -x A=\"two words\"\ntypeset\t-x B=$'1\\n2' C=\"\\$x\"\ndeclare -x D\n",
            vec![("A", "two words"), ("B", "1\n2"), ("C", "$x")],
        ),
        ("PWD=/x SHLVL=2 _=/usr/bin/env A=1\ndeclare -x OLDPWD", vec![("A", "1")]),
        ("export PWD='/x' A=$'1'\nOLDPWD=", vec![("A", "1")]),
        ("PATH=/a\nPATH=$PATH:/b", vec![("PATH", "/a:/b")]),
        (
            "LANG=C LC_ALL=en_US.UTF-8 HOME=/x",
            vec![("HOME", "/x"), ("LANG", "C"), ("LC_ALL", "en_US.UTF-8")],
        ),
    ] {
        let expected: Vec<_> =
            expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        assert_eq!(variables(text), expected, "{text:?}");
    }
}

#[test]
fn path_is_known_before_the_file_sets_it() {
    let standard = format!("{STANDARD_PATH}:/x");
    assert_eq!(variables("PATH=$PATH:/x"), [("PATH".to_owned(), standard.clone())]);
    assert_eq!(variables("A=${PATH}:/x"), [("A".to_owned(), standard)]);
    let env = Env::parse_on(b"export PATH=\"bin:$PATH\"", "/opt/bin").unwrap();
    assert_eq!(env.get("PATH"), Some("bin:/opt/bin"));
}

#[test]
fn returns_the_names_that_have_no_effect() {
    let env = Env::parse(b"export SHLVL=1 A=2\nPWD=/x\nPWD=/y").unwrap();
    assert_eq!(env.ignored().collect::<Vec<_>>(), ["PWD", "SHLVL"]);
    assert_eq!(env, Env::parse(b"A=2").unwrap());
    assert_eq!(env.to_environment_file(&[]), "A=\"2\"\n");
}

#[test]
fn an_error_has_the_place_and_the_reason() {
    for (text, line, column, what) in [
        // Words that bash would run.
        ("A=1\nrm -rf /", 2, 1, "not an assignment"),
        ("A=1 true", 1, 5, "not an assignment"),
        ("A=1 export B=2", 1, 5, "not an assignment"),
        ("export \"A=1\"", 1, 8, "not an assignment"),
        ("export -n A", 1, 8, "not an assignment"),
        ("export A=1 2B=3", 1, 12, "not an assignment"),
        ("exportA", 1, 1, "not an assignment"),
        ("export", 1, 1, "`export` without a name"),
        ("A = 1", 1, 1, "not an assignment"),
        ("Ä=1", 1, 1, "not an assignment"),
        ("NA\\\nME=1", 1, 1, "not an assignment"),
        ("A", 1, 1, "not an assignment"),
        ("PASS=one two", 1, 10, "not an assignment"),
        (". ./other", 1, 1, "not an assignment"),
        ("{ A=1; }", 1, 1, "not an assignment"),
        ("\u{c}A=1", 1, 1, "not an assignment"),
        (";A=1", 1, 1, "`;` without"),
        ("A=1;;", 1, 5, "`;` without"),
        ("A=1 && B=2", 1, 5, "not an assignment"),
        ("A=1&&B=2", 1, 4, "`&` outside quotes"),
        ("A=x|y", 1, 4, "`|` outside quotes"),
        ("A=x>y", 1, 4, "`>` outside quotes"),
        ("A=<(x)", 1, 3, "`<` outside quotes"),
        ("A=x)", 1, 4, "`)` outside quotes"),
        // Text that bash would expand.
        ("A=`x`", 1, 3, "a command substitution"),
        ("A=\"é`x`\"", 1, 5, "a command substitution"),
        ("A=$(x)", 1, 3, "a command substitution"),
        ("A=$((1))", 1, 3, "a command substitution or arithmetic"),
        ("A=\"\n $(x)\"", 2, 2, "a command substitution"),
        ("A=$[1]", 1, 3, "arithmetic"),
        ("A=1\nB=${A:-x}", 2, 3, "an expansion that is more"),
        ("A=1\nB=${#A}", 2, 3, "an expansion that is more"),
        ("A=${", 1, 3, "an expansion that is more"),
        ("A=$1", 1, 3, "a special parameter"),
        ("A=x$?", 1, 4, "a special parameter"),
        ("A=$$", 1, 3, "a special parameter"),
        ("A=\"$@\"", 1, 4, "a special parameter"),
        ("A=$_", 1, 3, "not set before"),
        ("A=pa$sword", 1, 5, "not set before"),
        ("A=$HOME/x", 1, 3, "each process has its own"),
        ("PATH=\"$HOME/bin:$PATH\"", 1, 7, "each process has its own"),
        ("A=$PWD/x", 1, 3, "not set before"),
        ("PWD=/x\nA=$PWD", 2, 3, "not set before"),
        ("A=$PATHS", 1, 3, "not set before"),
        ("export A=1 B=$A", 1, 14, "not set before"),
        ("A=$\"x\"", 1, 3, "a translated string"),
        ("A=~/x", 1, 3, "home directory"),
        ("A=/x:~", 1, 6, "home directory"),
        ("A=\\\n~", 2, 1, "home directory"),
        ("export A={a,b}", 1, 10, "a brace expansion"),
        ("export A=x{1..3}", 1, 11, "a brace expansion"),
        ("B=1\nA=$B\\\nC", 2, 3, "go on in the next line"),
        // Values that the environment cannot hold.
        ("A=(1 2)", 1, 3, "an array"),
        ("A[0]=1", 1, 1, "an array element"),
        ("A=1\nA+=2", 2, 1, "an assignment with `+=`"),
        ("A=a\0b", 1, 4, "a NUL byte"),
        (r"A=$'\0'", 1, 5, "a NUL byte"),
        (r"A=$'\x00'", 1, 5, "a NUL byte"),
        (r"A=$'\400'", 1, 5, "a NUL byte"),
        (r"A=$'\u0000'", 1, 5, "a NUL byte"),
        (r"A=1 B=$'\xff'", 1, 5, "not UTF-8"),
        (r"A=$'\ud800'", 1, 5, "no Unicode character"),
        (r"A=$'\U00110000'", 1, 5, "no Unicode character"),
        (r"A=$'\x{41}'", 1, 5, "`\\x{`"),
        (r"A=$'\c\a'", 1, 5, "`\\c`"),
        ("LANG=C\nA=$'\\u00e9'", 2, 5, "depends on the locale"),
        ("A=\u{fffe}", 1, 1, "a Unicode noncharacter"),
        // Unfinished or unclean text.
        ("A='x\ny", 1, 3, "this ' has no closing quote"),
        ("A=1\nB=\"x\n", 2, 3, "this \" has no closing quote"),
        ("A=\"x\\", 1, 3, "this \" has no closing quote"),
        ("A=$'x\\'", 1, 3, "this $'…' has no closing quote"),
        ("A=$'x\\", 1, 3, "this $'…' has no closing quote"),
        ("A=x\\", 1, 4, "a backslash at the end"),
        ("A=1\r\nB=2\r\n", 1, 4, "a carriage return"),
        ("A=\\\r\n", 1, 3, "a carriage return"),
        ("\u{feff}A=1", 1, 1, "a byte order mark"),
        ("A=\"\\\u{7f}\"", 1, 4, "a control character behind a backslash"),
        ("A=$'\\\u{1}'", 1, 5, "a control character behind a backslash"),
        ("A=\\\u{1}", 1, 3, "a control character behind a backslash"),
        // Names that no shell accepts.
        ("spring.datasource.url=jdbc:x", 1, 1, "a name with `.`"),
        ("A=1\nexport a.b-c=x", 2, 8, "a name with `.`"),
        ("MY-KEY=x", 1, 1, "a name with `-`"),
        ("export MY-KEY='x y'", 1, 8, "a name with `-`"),
        ("MY-KEY", 1, 1, "not an assignment"),
        ("a.out --x=y", 1, 1, "not an assignment"),
        // Of the options of `declare` only `-x`.
        ("declare A=1", 1, 1, "not an assignment"),
        ("declare -rx A=1", 1, 1, "not an assignment"),
        ("declare -xr A=1", 1, 1, "not an assignment"),
        ("declare-x A=1", 1, 1, "not an assignment"),
        ("declare -x", 1, 1, "without a name"),
        ("declare -x A=$(x)", 1, 14, "a command substitution"),
        // Names that belong to bash.
        ("UID=0", 1, 1, "UID means something to bash"),
        ("A=1 BASH_ENV=x", 1, 5, "BASH_… means something"),
        ("export PPID", 1, 8, "PPID means something"),
        ("export PATH", 1, 8, "`export PATH` without a value"),
    ] {
        let error = Env::parse(text.as_bytes()).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
        assert!(error.what.contains(what), "{text:?}: {error}");
    }
    assert_eq!(
        Env::parse(b"A=1\nB=\xff").unwrap_err().to_string(),
        "line 2, column 3: not UTF-8 text"
    );
}

#[test]
fn refuses_more_than_a_process_can_get() {
    let longest = "x".repeat(LONGEST_VARIABLE - "A=".len());
    assert!(Env::parse(format!("A={longest}").as_bytes()).is_ok());
    for (text, what) in [
        (format!("A={longest}x"), "a variable can have"),
        (format!("A={longest}\nB=$A$A"), "a variable can have"),
        (format!("A={longest}\nB=\"{}\"", "$A".repeat(100_000)), "a variable can have"),
        (format!("A={}\n{}", &longest[1..], "B=$A\n".repeat(100_000)), "512 KiB"),
        ("#".repeat(LONGEST_FILE + 1), "longer than 1024 KiB"),
    ] {
        let error = Env::parse(text.as_bytes()).unwrap_err();
        assert!(error.what.contains(what), "{error}");
    }
}

#[test]
fn reads_the_longest_canonical_file() {
    let line =
        |name: String| format!("{name}='{}'\n", "$".repeat(LONGEST_VARIABLE - name.len() - 1));
    let file: String = (1..=3).map(|n| line(format!("A{n}"))).collect();
    let rest = LONGEST_TOTAL - 3 * (LONGEST_VARIABLE + 1) - "B=".len() - 1;
    let env = Env::parse(format!("{file}B='{}'", "$".repeat(rest)).as_bytes()).unwrap();
    assert_eq!(Env::parse(env.to_environment_file(&[]).as_bytes()).unwrap(), env);
    assert!(Env::parse(format!("{file}B='{}'", "$".repeat(rest + 1)).as_bytes()).is_err());
}

#[test]
fn no_error_and_no_debug_output_holds_a_part_of_a_value() {
    for text in [
        "A=one MARKER",
        "A=x$MARKER",
        "A=${MARKER:-x}",
        "A=x\nMARKER",
        "A='MARKER",
        "A=MARKER$(x)",
        "A=$'MARKER\\xff'",
        "A=MARKER\nB=$A$A(",
        "A=x MARKER~y",
        "A=x MARKER+=y",
        "A=x BASH_MARKER=y",
        "A=x MARKER.y=z",
        "A=x\nMARKER-y=z",
    ] {
        let error = Env::parse(text.as_bytes()).expect_err(text);
        assert!(!format!("{error} {error:?}").contains("MARKER"), "{text:?}: {error:?}");
    }
    let env = Env::parse(b"B=MARKER A=MARKER").unwrap();
    assert_eq!(format!("{env:?}"), r#"Env{"A", "B"}"#);
}

proptest! {
    #[test]
    fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Env::parse(&bytes);
    }

    #[test]
    fn never_panics_on_what_looks_like_env(
        text in "((export )?A=([$'\"\\\\{}a1~:;`(é\n\r ]|\\$'|\\$\\{A|\\\\[xuUc0-7]){0,9}\n?){0,4}"
    ) {
        let _ = Env::parse(text.as_bytes());
    }
}

#[test]
fn a_command_tells_where_its_words_are() {
    let text = "# a\nexport A='x\n=y'  B # c=1\nC=3; D=$A\n\n";
    let commands = Env::commands(text).unwrap();
    let words = |command: &Command| -> Vec<(String, String)> {
        let word = |word: &Word| (text[word.name.clone()].into(), text[word.bytes.clone()].into());
        command.words.iter().map(word).collect()
    };
    let seen: Vec<_> = commands
        .iter()
        .map(|command| (command.exports, &text[command.bytes.clone()], words(command)))
        .collect();
    let pair = |name: &str, word: &str| (name.to_owned(), word.to_owned());
    let expected = [
        (true, "export A='x\n=y'  B # c=1\n", vec![pair("A", "A='x\n=y'"), pair("B", "B")]),
        (false, "C=3;", vec![pair("C", "C=3")]),
        (false, " D=$A\n", vec![pair("D", "D=$A")]),
    ];
    assert_eq!(seen, expected);
}
