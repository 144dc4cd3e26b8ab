//! `$'…'`: bash's ANSI-C quoting, see QUOTING in bash(1).

use super::cursor::{Cursor, Place};
use super::reserved;
use crate::release::ParseError;

/// Decodes up to the closing quote. The cursor stands after the opening quote, which is at
/// `open`. `\x` and `\nnn` give bytes, so only the whole value can be checked for UTF-8.
///
/// The result of `\u` for a character beyond ASCII depends on bash's locale: it is refused if
/// the file has changed the locale.
pub(super) fn decode(
    cursor: &mut Cursor,
    open: Place,
    locale_changed: bool,
    out: &mut Vec<u8>,
) -> Result<(), ParseError> {
    loop {
        let at = cursor.place();
        match cursor.next() {
            None => return Err(open.refuse("this $'…' has no closing quote")),
            Some('\'') => return Ok(()),
            Some('\\') => escape(cursor, at, locale_changed, out)?,
            Some(c) => push(c, out),
        }
    }
}

fn escape(
    cursor: &mut Cursor,
    at: Place,
    locale_changed: bool,
    out: &mut Vec<u8>,
) -> Result<(), ParseError> {
    let letter = cursor.peek();
    if letter.is_some_and(is_octal) {
        let digits = cursor.take_up_to(3, is_octal);
        // Bash keeps the low eight bits of `\777`.
        return byte(number(digits, 8) & 0xFF, at, out);
    }
    cursor.next();
    match letter {
        Some('a') => out.push(0x07),
        Some('b') => out.push(0x08),
        Some('e' | 'E') => out.push(0x1B),
        Some('f') => out.push(0x0C),
        Some('n') => out.push(b'\n'),
        Some('r') => out.push(b'\r'),
        Some('t') => out.push(b'\t'),
        Some('v') => out.push(0x0B),
        Some(c @ ('\\' | '\'' | '"' | '?')) => push(c, out),
        Some('c') => return control(cursor, at, out),
        Some('x') if cursor.peek() == Some('{') => {
            return Err(at.refuse("`\\x{`").help("write \\xHH or \\uHHHH"));
        }
        Some('x') => match cursor.take_up_to(2, |c| c.is_ascii_hexdigit()) {
            "" => out.extend(b"\\x"),
            digits => return byte(number(digits, 16), at, out),
        },
        Some(u @ ('u' | 'U')) => {
            let most = if u == 'u' { 4 } else { 8 };
            match cursor.take_up_to(most, |c| c.is_ascii_hexdigit()) {
                "" => out.extend([b'\\', u as u8]),
                digits => return character(number(digits, 16), at, locale_changed, out),
            }
        }
        Some(other) => {
            reserved::check_escaped(other, at)?;
            out.push(b'\\');
            push(other, out);
        }
        // The end of the file: the caller finds the quote unclosed.
        None => {}
    }
    Ok(())
}

/// Decodes `\cX`, for the X on which all versions of bash agree.
fn control(cursor: &mut Cursor, at: Place, out: &mut Vec<u8>) -> Result<(), ParseError> {
    match cursor.peek() {
        Some('?') => out.push(0x7F),
        Some(c @ ('A'..='Z' | 'a'..='z' | '[' | ']' | '^' | '_')) => out.push(c as u8 & 0x1F),
        _ => {
            return Err(at
                .refuse("`\\c` without a control character's letter")
                .help("write \\xHH"));
        }
    }
    cursor.next();
    Ok(())
}

fn character(
    code: u32,
    at: Place,
    locale_changed: bool,
    out: &mut Vec<u8>,
) -> Result<(), ParseError> {
    let c = char::from_u32(code).ok_or_else(|| at.refuse("this escape is no Unicode character"))?;
    if !c.is_ascii() && locale_changed {
        return Err(at
            .refuse("what this escape means depends on the locale, which this file sets")
            .help("write the character itself, or set LANG and LC_* after it"));
    }
    if c == '\0' {
        return byte(0, at, out);
    }
    push(c, out);
    Ok(())
}

fn byte(value: u32, at: Place, out: &mut Vec<u8>) -> Result<(), ParseError> {
    match u8::try_from(value) {
        Ok(0) | Err(_) => Err(at.refuse("this escape is a NUL byte, which no variable can hold")),
        Ok(value) => {
            out.push(value);
            Ok(())
        }
    }
}

fn push(c: char, out: &mut Vec<u8>) {
    out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn is_octal(c: char) -> bool {
    c.is_digit(8)
}

/// `digits` holds at most eight hexadecimal digits, which fit.
fn number(digits: &str, radix: u32) -> u32 {
    u32::from_str_radix(digits, radix).unwrap_or(u32::MAX)
}
