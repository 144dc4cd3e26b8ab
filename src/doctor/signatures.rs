//! Whether this instance can verify the signatures that it requires.

use super::Instance;
use crate::trust::{ALLOWED, DIRECTORY, KEYGEN, REVOKED};
use model::doctor::{Check, Row};
use model::release::signers;

const CHECK: Check = Check::Signatures;

pub async fn signatures(instance: &Instance) -> Row {
    let [allowed, revoked] = [ALLOWED, REVOKED].map(|name| format!("{DIRECTORY}/{name}"));
    if !instance.exists(&allowed) {
        return Row::skipped(CHECK, format!("not required: there is no {allowed}"));
    }
    if !instance.exists(KEYGEN) {
        let text = format!("required by {allowed}, and there is no {KEYGEN}");
        let remedy = "install openssh-client (Amazon Linux, RHEL: openssh); until then, every \
                      deploy is refused";
        return Row::failed(CHECK, text, remedy);
    }
    let Some(text) = instance.read(&allowed) else {
        let text = format!("{allowed} cannot be read: every deploy is refused");
        return Row::failed(CHECK, text, format!("make {allowed} a text that root can read"));
    };
    match signers::count(&text) {
        Ok(0) => {
            let text = format!("{allowed} lists no key: every deploy is refused");
            let remedy = "add the keys that may sign releases, or remove the file";
            Row::failed(CHECK, text, remedy)
        }
        Ok(keys) => {
            let revoked = if instance.exists(&revoked) { ", without those revoked" } else { "" };
            Row::ok(CHECK, format!("required, by one of the keys trusted ({keys}{revoked})"))
        }
        Err(error) => {
            let text = format!("{allowed}, line {}: {}", error.line, error.what);
            let remedy = "write PRINCIPAL [OPTIONS] TYPE KEY, as ALLOWED SIGNERS in `man \
                          ssh-keygen` says; this line is skipped";
            Row::failed(CHECK, text, remedy)
        }
    }
}
