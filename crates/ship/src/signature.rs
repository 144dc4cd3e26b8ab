//! Signatures as OpenSSH makes them: `ssh-keygen -Y verify` checks them.

use crate::program::Program;
use model::error::{Error, Result};
use model::release::digest::Sha256;
use model::release::signature::NAMESPACE;
use std::env;
use std::path::{Path, PathBuf};

/// A key: its file, or the public half of a key that the SSH agent or a FIDO token holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    key: PathBuf,
}

impl Signer {
    /// Takes the path of a key: relative to `directory`, or below the home directory by `~/`.
    pub fn new(key: &Path, directory: &Path) -> Result<Signer> {
        let key = match (key.strip_prefix("~"), env::var_os("HOME")) {
            (Ok(below), Some(home)) => Path::new(&home).join(below),
            _ => directory.join(key),
        };
        match key.metadata() {
            Ok(_) => Ok(Signer { key }),
            Err(why) => {
                let error = Error::usage(format!("read the key {}", key.display())).because(why);
                Err(error.help("name a private key, or the public half of one in the SSH agent"))
            }
        }
    }

    /// Signs a text. ssh-keygen asks for a passphrase, or a touch, at the terminal.
    pub async fn sign(&self, text: Vec<u8>) -> Result<Vec<u8>> {
        let (signer, sum) = (self.clone(), Sha256::of(&text));
        let signed = tokio::task::spawn_blocking(move || signer.sign_now(&text)).await;
        let what = || Error::failed(format!("sign {}", sum.begin(12)));
        signed.map_err(|why| what().because(why))?
    }

    fn sign_now(&self, text: &[u8]) -> Result<Vec<u8>> {
        let keygen = Program { name: "ssh-keygen", directory: Path::new(".") };
        let (key, sign) = (self.key.as_os_str(), ["-Y", "sign", "-n", NAMESPACE, "-f"]);
        let words = sign.iter().map(|word| word.as_ref()).chain([key]);
        keygen.feed(words, text).map_err(|why| {
            let error = Error::usage(format!("sign with the key {}", self.key.display()));
            error.because(why).help("try it: `ssh-keygen -Y sign -n deploy-release -f KEY FILE`")
        })
    }
}
