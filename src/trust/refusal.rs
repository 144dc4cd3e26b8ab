//! Why a signature is not accepted, from ssh-keygen's messages.

use super::Trust;
use model::error::Error;
use model::reason::Reason;
use model::release::signature::{NAMESPACE, Signature};
use model::text;

/// The most characters of a message of ssh-keygen.
const LONGEST: usize = 200;

impl Trust {
    /// Returns the error for a signature that ssh-keygen does not accept; `ending` is the reason
    /// if it has given none.
    pub(super) fn refusal(&self, signature: &Signature, said: &[String], ending: &str) -> Error {
        let (allowed, revoked) = (self.allowed.display(), self.revoked.display());
        let (key, namespace) = (&signature.key, &signature.namespace);
        let line = |words: &str| said.iter().find(|line| line.contains(words));
        let heard = |words: &str| line(words).is_some();
        let not_trusted = |why: String, help: String| {
            let error = Error::unusable("its signature is not trusted").because(why);
            error.with_reason(Reason::SignerNotTrusted).help(help)
        };
        let add = format!("let somebody sign it whose key is in {allowed}, or add the key there");
        if heard("incorrect signature") {
            let error = Error::unusable("its signature is of another text");
            let why = "SHA256SUMS was changed after it was signed";
            let help = "make the release again, and find out who has changed it";
            return error.because(why).with_reason(Reason::SignatureMismatch).help(help);
        }
        if namespace != NAMESPACE {
            let why =
                format!("it is for the namespace {}, not {NAMESPACE}", text::quoted(namespace));
            let help = format!("sign it with `ssh-keygen -Y sign -n {NAMESPACE}`");
            return not_trusted(why, help);
        }
        if heard("the key is revoked") {
            let help = "sign it with another key".to_owned();
            return not_trusted(format!("the key {key} is revoked in {revoked}"), help);
        }
        if heard("revoked_keys is unreadable") {
            let why = format!("{revoked} is neither a key revocation list nor public keys");
            let help = format!("correct it: `ssh-keygen -Q -l -f {revoked}` reads it, or `-l -f`");
            return not_trusted(why, help);
        }
        for (words, why, help) in [
            ("key has expired", "has expired", "sign it with a key that is valid"),
            ("key is not yet valid", "is not yet valid", "check this instance's clock"),
        ] {
            if let Some(line) = line(words) {
                let when = line.split_once("verify time ").map_or("", |(_, when)| when);
                let why = format!("the key {key} {why} in {allowed}: at {}", shown(when));
                return not_trusted(why, format!("{help}, or change the line in {allowed}"));
            }
        }
        if heard("not permitted for use in signature namespace") {
            let why = format!("{allowed} lists the key {key} for other namespaces");
            return not_trusted(
                why,
                format!("add {NAMESPACE} to its namespaces, or leave them out"),
            );
        }
        if heard("no valid principals found") || heard("not authorized") {
            let why =
                format!("the certificate of {key} is for a principal that {allowed} does not list");
            return not_trusted(why, add);
        }
        if heard("Unable to open allowed keys file") {
            let why = format!("{allowed} cannot be read, so no key is trusted");
            let help = format!("correct it, or remove it: without {allowed} none is required");
            return not_trusted(why, help);
        }
        if heard("No principal matched") {
            return not_trusted(format!("the key {key} is not in {allowed}"), add);
        }
        let why = said.last().map_or(ending, String::as_str);
        not_trusted(shown(why), add).with_log(said.to_vec())
    }
}

fn shown(text: &str) -> String {
    text::line(text, LONGEST)
}
