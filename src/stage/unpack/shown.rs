//! How messages show a name that a stranger wrote.

/// The maximum length of a name in an error, in characters.
const SHOWN: usize = 200;

/// Formats a name for messages: control and other unprintable characters are escaped, so that it
/// cannot control a terminal or break a log line, and it is cut to 200 characters.
pub(super) fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' | '\'' => text.push(char),
                _ => text.extend(char.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
        if text.len() > SHOWN * 4 {
            break;
        }
    }
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_any_bytes_safely_and_briefly() {
        assert_eq!(shown("it's \"né\"".as_bytes()), "it's \"né\"");
        assert_eq!(shown(b"\x1b]0;x\x07\n\xff"), "\\u{1b}]0;x\\u{7}\\n\\xff");
        assert_eq!(shown("\u{202e}gpj.exe".as_bytes()), "\\u{202e}gpj.exe");
        assert_eq!(shown(&b"x".repeat(5000)).chars().count(), SHOWN + 1);
        assert_eq!(shown(&b"\xff".repeat(5000)).chars().count(), SHOWN + 1);
    }
}
