//! The signature of a release, which an instance with `allowed_signers` requires: verified before
//! the archive is fetched, and the archive compared with it before anything of it runs.

use crate::context::Context;
use crate::source::Resolved;
use crate::store::Locked;
use model::error::{Error, Result};
use model::event::Step;
use model::reason::Reason;
use model::release::digest::Sha256;
use model::release::manifest::Manifest;
use model::release::signature::{self, NAMESPACE, SIGNATURE, Signature, Signer};
use model::release::sums::{self, SUMS, Sums};
use model::release::url::ReleaseUrl;

const ENV: &str = "env";

/// The verified signature of a release.
#[derive(Debug)]
pub struct Signed {
    pub by: Signer,
    /// The sum of the archive that was signed.
    archive: Sha256,
}

/// Verifies the signature of a release, and that it is of this release and this env. Returns none
/// if this instance requires no signatures.
pub(super) async fn verify(
    cx: &Context,
    resolved: &Resolved,
    env: &Sha256,
) -> Result<Option<Signed>> {
    if !cx.trust.is_required() {
        return Ok(None);
    }
    let url = resolved.url();
    let over = || Error::source(format!("read {SUMS} of {url}")).because(super::TIME_OVER);
    let read = async {
        let text = cx.sources.beside(url, SUMS, sums::LONGEST);
        let signature = cx.sources.beside(url, SIGNATURE, signature::LONGEST);
        tokio::try_join!(text, signature)
    };
    let allowed = cx.trust.allowed().display();
    let missing = |name| {
        let why = format!("there is no {name}, and {allowed} on this instance requires it");
        unsigned(url, why)
    };
    let (text, signature) = cx.in_time(read).await.ok_or_else(over)??;
    let (text, signature) = match (text, signature) {
        (Some(text), Some(signature)) => (text, signature),
        (None, _) => return Err(missing(SUMS)),
        (_, None) => return Err(missing(SIGNATURE)),
    };
    let signature = Signature::parse(&signature)
        .ok_or_else(|| unsigned(url, format!("{SIGNATURE} is not a signature by OpenSSH")))?;
    let by = {
        let _turn = cx.common.verifying.lock().await;
        cx.trust.verify(&*cx.machine, &signature, &text).await
    };
    let by = by.map_err(|error| super::with_url(resolved, error))?;
    let signed = compare(resolved, &text, env, by)?;
    cx.events.step(Step::Resolve, format!("signed by {}", signed.by));
    Ok(Some(signed))
}

/// Compares what was signed with the release that was found.
fn compare(resolved: &Resolved, text: &[u8], env: &Sha256, by: Signer) -> Result<Signed> {
    let url = resolved.url();
    let sums = Sums::parse(text).map_err(|error| super::refused(resolved, SUMS, error))?;
    let title = sums::title(url.app(), url.environment(), url.release());
    match &sums.release {
        Some(release) if *release == title => {}
        Some(release) => {
            let why = format!("it was signed as {}, not as {title}", model::text::quoted(release));
            let help = "sign it anew under this name: `ship promote` and `ship config --release` \
                        do, with a key";
            return Err(mismatch(url, why).help(help));
        }
        None => {
            let why = format!("{SUMS} does not say which release it is of");
            let help = format!("make `# {title}` its first line, and sign it again");
            return Err(mismatch(url, why).help(help));
        }
    }
    let archive = resolved.compression().archive_name();
    let sum = |name| {
        let help = format!("list it: `sha256sum {archive} {ENV}`, below `# {title}`");
        let why = || mismatch(url, format!("{SUMS} has no sum of {name}"));
        sums.of(name).ok_or_else(|| why().help(help))
    };
    if sum(ENV)? != env {
        let why =
            "its env is not the one that was signed: it was changed, or is of another release";
        return Err(mismatch(url, why));
    }
    Ok(Signed { by, archive: sum(archive)?.clone() })
}

impl Signed {
    /// Compares the archive with the one that was signed.
    pub(super) fn check_archive(&self, resolved: &Resolved, read: Option<&Sha256>) -> Result<()> {
        let name = resolved.compression().archive_name();
        match read {
            Some(sum) if *sum == self.archive => Ok(()),
            Some(_) => {
                let why = format!("its {name} is not the one that was signed: it was changed");
                Err(mismatch(resolved.url(), why))
            }
            None => {
                let why = format!("its {name} was not read to its end, so it has no sum");
                Err(mismatch(resolved.url(), why))
            }
        }
    }

    /// Whether an installed release may be used for one that is signed so: it has the same archive,
    /// by its bytes.
    pub(super) fn allows(signed: Option<&Signed>, manifest: &Manifest) -> bool {
        let same = |signed: &Signed| {
            let content = manifest.identity.content.as_ref();
            content.is_some_and(|content| content.archive == signed.archive)
        };
        signed.is_none_or(same)
    }
}

/// Records who has signed an installed release.
pub fn note_signer(
    app: &Locked,
    mut manifest: Manifest,
    signed: Option<&Signed>,
) -> Result<Manifest> {
    if let Some(signed) = signed
        && manifest.signed_by.as_ref() != Some(&signed.by)
    {
        manifest.signed_by = Some(signed.by.clone());
        app.write_manifest(&manifest)?;
    }
    Ok(manifest)
}

fn unsigned(url: &ReleaseUrl, why: String) -> Error {
    let error = Error::unusable(format!("{url} is not signed")).because(why);
    let help = format!(
        "sign it: `ship release --sign KEY`, or `ssh-keygen -Y sign -n {NAMESPACE} -f KEY {SUMS}`"
    );
    error.with_reason(Reason::SignatureMissing).help(help)
}

fn mismatch(url: &ReleaseUrl, why: impl Into<String>) -> Error {
    let error = Error::unusable(format!("{url} is not what was signed")).because(why.into());
    let help = "make the release again, and find out who has changed it";
    error.with_reason(Reason::SignatureMismatch).help(help)
}
