//! Text that a stranger wrote, as an error, a log or a terminal may show it.

/// Characters of such a text that are shown.
const LONGEST: usize = 80;

/// Returns the text quoted, escaped and cut.
pub fn quoted(text: &str) -> String {
    let (shown, more) = cut(text, LONGEST);
    format!("\"{}{more}\"", shown.escape_debug())
}

/// Returns the text cut to 80 characters, with an ellipsis where more follows.
pub fn shortened(text: &str) -> String {
    let (shown, more) = cut(text, LONGEST);
    format!("{shown}{more}")
}

/// Returns one line of at most `longest` characters without control characters.
pub fn line(text: &str, longest: usize) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(longest).collect()
}

/// Returns the text with all control characters replaced that could steer a terminal.
pub fn for_terminal(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !"\t\n".contains(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// Returns a length of time as a person reads it.
pub fn took(seconds: f64) -> String {
    match seconds {
        ..0.9995 => format!("{:.0} ms", seconds * 1e3),
        ..59.95 => format!("{seconds:.1} s"),
        ..3_600.0 => {
            format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor())
        }
        _ => format!(
            "{:.0} h {:.0} min",
            (seconds / 3_600.0).floor(),
            (seconds / 60.0 % 60.0).floor()
        ),
    }
}

fn cut(text: &str, longest: usize) -> (&str, &str) {
    match text.char_indices().nth(longest) {
        Some((at, _)) => (&text[..at], "…"),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_speak_to_a_terminal_or_break_a_line() {
        assert_eq!(quoted("a\x1b[31m\n"), "\"a\\u{1b}[31m\\n\"");
        assert_eq!(line("a\nb\x07c", 9), "a b c");
        assert_eq!(for_terminal("a\tb\n\x1b[2J"), "a\tb\n\u{fffd}[2J");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "\u{e9}".repeat(200);
        assert_eq!(shortened(&long).chars().count(), LONGEST + 1);
        assert_eq!(line(&long, 3), "\u{e9}\u{e9}\u{e9}");
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn a_length_of_time_has_the_unit_that_suits_it() {
        let lengths = [(0.0123, "12 ms"), (1.94, "1.9 s"), (59.9, "59.9 s"), (125.7, "2 min 5 s")];
        for (seconds, text) in lengths {
            assert_eq!(took(seconds), text);
        }
        assert_eq!(took(7_384.0), "2 h 3 min");
    }
}
