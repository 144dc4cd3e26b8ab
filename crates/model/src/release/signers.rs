//! `allowed_signers`: a check of its lines, which ssh-keygen(1) describes under ALLOWED SIGNERS.
//! ssh-keygen skips a line that it cannot read.

use super::ParseError;
use super::digest::from_base64;

/// The options of a line, without their values.
const OPTIONS: [&str; 4] = ["cert-authority", "namespaces", "valid-after", "valid-before"];

/// Returns how many keys are listed; an error for the first line that lists none.
pub fn count(text: &str) -> Result<usize, ParseError> {
    let lines = text.lines().enumerate().map(|(nth, line)| (nth + 1, line.trim()));
    let mut keys = 0;
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        check(line).map_err(|what| ParseError::new(number, 1, what))?;
        keys += 1;
    }
    Ok(keys)
}

/// Checks `PRINCIPALS [OPTIONS] TYPE KEY [COMMENT]`.
fn check(line: &str) -> Result<(), String> {
    let words = words(line);
    let mut rest = words.iter().map(String::as_str);
    rest.next().ok_or("no principal")?;
    let mut next = rest.next().ok_or("no key after the principals")?;
    if !is_type(next) {
        for option in options(next) {
            let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase();
            if !OPTIONS.contains(&name.as_str()) {
                return Err(format!(
                    "neither an option nor a key: {}",
                    crate::text::quoted(option)
                ));
            }
        }
        next = rest.next().filter(|word| is_type(word)).ok_or("no key after the options")?;
    }
    let data = rest.next().and_then(from_base64).unwrap_or_default();
    // The data begins with its type, after a length of four bytes.
    match data.get(4..).is_some_and(|data| data.starts_with(next.as_bytes())) {
        true => Ok(()),
        false => Err("the key is incomplete, or of another type".to_owned()),
    }
}

fn is_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|begin| word.starts_with(begin))
}

/// Splits at spaces outside of double quotes.
fn words(line: &str) -> Vec<String> {
    let mut quoted = false;
    let parts = line.split(|c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    });
    parts.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Splits at commas outside of double quotes.
fn options(word: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    word.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAq1ok0GW2Ow0yCQKKCTeGM0sVzsqYm5bCK6BTOBY9Jh";

    #[test]
    fn counts_keys_with_and_without_options() {
        let text = format!(
            "# the team\n\nada@x {KEY} Ada\n*@x,!eve@x cert-authority,namespaces=\"a,b c\" {KEY}\n\
             \"bob@x\" valid-after=\"20250101\",VALID-before=\"20300101Z\" {KEY}\n"
        );
        assert_eq!(count(&text), Ok(3));
        assert_eq!(count(""), Ok(0));
    }

    #[test]
    fn names_the_line_that_lists_no_key() {
        for (line, expected) in [
            ("ada@x", "no key after the principals"),
            (KEY, "neither an option nor a key"),
            ("ada@x namespace=\"git\" ssh-ed25519 AAAA", "an option nor a key: \"namespace="),
            ("ada@x cert-authority", "no key after the options"),
            ("ada@x ssh-ed25519", "incomplete"),
            ("ada@x ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA", "of another type"),
        ] {
            let error = count(&format!("ada@x {KEY}\n{line}\n")).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.what.contains(expected), "{line}: {}", error.what);
        }
    }
}
