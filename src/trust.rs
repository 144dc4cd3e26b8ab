//! The keys that may sign releases, and the verification of a signature by OpenSSH's own
//! ssh-keygen.

mod refusal;

use crate::host::seams::Machine;
use crate::host::transient::{Command, Ending, Property};
use model::error::{Error, Result};
use model::release::signature::{NAMESPACE, Signature, Signer};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory of the files below.
pub const DIRECTORY: &str = "/etc/deploy";
/// The trusted keys, as ssh-keygen(1) has them. Where it exists, every deploy requires a signature.
pub const ALLOWED: &str = "allowed_signers";
/// The keys that are no longer trusted: a key revocation list, or public keys.
pub const REVOKED: &str = "revoked_keys";
pub const KEYGEN: &str = "/usr/bin/ssh-keygen";

/// The longest verification, which usually takes milliseconds.
const LONGEST: Duration = Duration::from_secs(30);
/// The most lines of ssh-keygen's messages that are kept.
const LINES: usize = 40;
const UNIT: &str = "deployd-signature";
/// How the script reports the principal of a signature that it has verified.
const GOOD: &str = "good: ";

/// Verifies a signature. Its standard input is the signature's Base64 text in one line, then the
/// signed text. Arguments: ssh-keygen, namespace, allowed_signers, revoked_keys. ssh-keygen does
/// not report that a key is revoked: it is, if the signature is good without that list.
const SCRIPT: &str = r#"
umask 077
cd "$RUNTIME_DIRECTORY" && read -r base64 && cat >text || exit 1
printf -- '-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----\n' "$base64" >sig
keygen=$1 namespace=$2 allowed=$3 revoked=$4
"$keygen" -Y find-principals -s sig -f "$allowed" >principals || exit 1
verify() {
    "$keygen" -Y verify -n "$namespace" -f "$allowed" -I "$1" -s sig "${@:2}" <text >/dev/null
}
while IFS= read -r principal; do
    if [ ! -e "$revoked" ] && [ ! -L "$revoked" ]; then
        verify "$principal" && printf 'good: %s\n' "$principal" && exit 0
    elif verify "$principal" -r "$revoked"; then
        printf 'good: %s\n' "$principal" && exit 0
    elif verify "$principal" 2>/dev/null; then
        "$keygen" -Q -l -f "$revoked" >/dev/null 2>&1 || "$keygen" -l -f "$revoked" >/dev/null 2>&1 ||
            { echo 'revoked_keys is unreadable' && exit 1; }
        echo 'the key is revoked' && exit 1
    fi
done < <(head -n 16 principals)
exit 1
"#;

/// The files with the trusted keys, and the program that reads them.
#[derive(Clone, Debug)]
pub struct Trust {
    allowed: PathBuf,
    revoked: PathBuf,
    keygen: PathBuf,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust::below(Path::new(DIRECTORY))
    }
}

impl Trust {
    /// The files in a directory.
    pub fn below(directory: &Path) -> Trust {
        let [allowed, revoked] = [ALLOWED, REVOKED].map(|name| directory.join(name));
        Trust { allowed, revoked, keygen: KEYGEN.into() }
    }

    /// The same with another ssh-keygen.
    #[cfg(test)]
    pub fn with_keygen(self, keygen: &str) -> Trust {
        Trust { keygen: keygen.into(), ..self }
    }

    pub fn allowed(&self) -> &Path {
        &self.allowed
    }

    pub fn revoked(&self) -> &Path {
        &self.revoked
    }

    /// Whether releases must be signed: also if the file is empty or cannot be read.
    pub fn is_required(&self) -> bool {
        let found = self.allowed.symlink_metadata();
        !found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Returns the error for an instance that must verify signatures, and cannot.
    pub fn cannot_verify(&self) -> Option<Error> {
        let why = match self.keygen.metadata() {
            Ok(_) => return None,
            Err(error) => format!("{}: {error}", self.keygen.display()),
        };
        let what = format!("verify signatures, which {} requires", self.allowed.display());
        let help = "install ssh-keygen: the package openssh-client of Debian and Ubuntu, openssh \
                    of Amazon Linux and RHEL";
        Some(Error::failed(what).because(why).help(help))
    }

    /// Verifies the signature of a text, and returns the signer.
    ///
    /// # Errors
    ///
    /// `Exit::Unusable` if the signature is not good, or is by a key that is not trusted now;
    /// `Exit::Failed` if ssh-keygen cannot run.
    pub async fn verify(
        &self,
        machine: &dyn Machine,
        signature: &Signature,
        text: &[u8],
    ) -> Result<Signer> {
        if let Some(error) = self.cannot_verify() {
            return Err(error);
        }
        let mut said = Vec::new();
        let command = self.command(signature, text);
        let mut line = |line| {
            if said.len() < LINES {
                said.push(line);
            }
        };
        let ending = machine.run(command, &mut line).await?;
        let good = said.iter().rev().find_map(|line| line.strip_prefix(GOOD));
        match (ending, good) {
            (Ending::Success, Some(principal)) => Ok(Signer::new(principal, signature.key.clone())),
            (Ending::Success, None) => Err(self.refusal(signature, &said, "it names no principal")),
            (Ending::Failure(ending), _) => Err(self.refusal(signature, &said, &ending)),
        }
    }

    fn command(&self, signature: &Signature, text: &[u8]) -> Command {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let (allowed, revoked) = (path(&self.allowed), path(&self.revoked));
        let script = ["/bin/bash", "-c", SCRIPT, "verify"].map(str::to_owned);
        let arguments = [path(&self.keygen), NAMESPACE.to_owned(), allowed, revoked];
        let input = [signature.base64.as_bytes(), b"\n", text].concat();
        Command {
            unit: UNIT.to_owned(),
            description: "Verification of a release's signature".to_owned(),
            argv: script.into_iter().chain(arguments).collect(),
            timeout: LONGEST,
            properties: vec![
                ("StandardInput", Property::Text("data".to_owned())),
                ("StandardInputData", Property::Bytes(input)),
                ("RuntimeDirectory", Property::List(vec![UNIT.to_owned()])),
                ("RuntimeDirectoryMode", Property::Mode(0o700)),
                ("CapabilityBoundingSet", Property::Number(0)),
                ("NoNewPrivileges", Property::Bool(true)),
                ("RestrictAddressFamilies", Property::Allowed(vec!["AF_UNIX".to_owned()])),
                ("MemoryMax", Property::Number(256 << 20)),
                ("TasksMax", Property::Number(16)),
                ("LimitFSIZE", Property::Number(1 << 20)),
            ],
        }
    }
}
