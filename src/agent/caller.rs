//! Access control of the control socket.

use super::connections::Bounded;
use super::handed::Handed;
use super::respond::Failure;
use crate::context::{self, OPERATORS};
use crate::host::user;
use crate::store::Store;
use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use model::api::{BY, LONGEST_BY};
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::url::{ReleaseUrl, Scheme};

/// The peer of a connection; unix(7), SO_PEERCRED.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    ids: Option<(u32, u32)>,
    pid: u32,
    handed: Handed,
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        let credentials = stream.io().stream.peer_cred().ok();
        let pid = credentials.and_then(|peer| u32::try_from(peer.pid()?).ok());
        Peer {
            pid: pid.unwrap_or(0),
            ids: credentials.map(|peer| (peer.uid(), peer.gid())),
            handed: stream.io().handed.clone(),
        }
    }
}

/// Directories that deployd.service hides from deployd, since any user can write to them.
const HIDDEN: [&str; 4] = ["/tmp", "/var/tmp", "/home", "/run/user"];

/// A permitted user: root, or a member of the group `deploy`.
pub(super) struct Caller {
    /// With the person or job that it acts for, if it names one.
    pub(super) name: String,
    pub(super) uid: u32,
    /// Its process; 0 if that is not visible from here.
    pub(super) pid: u32,
    /// The file descriptors that the caller passed along.
    pub(super) handed: Handed,
    is_root: bool,
}

impl Caller {
    /// Parses a release URL. Only root may use file://: deployd reads it as root, so it could
    /// name files that the caller may not read.
    pub(super) fn url(&self, text: &str) -> Result<ReleaseUrl> {
        let url: ReleaseUrl = text.parse()?;
        let Scheme::File { base } = url.scheme() else { return Ok(url) };
        let what = || Error::usage(format!("read {url} for {}", self.name));
        if !self.is_root {
            let error = what().because("only root may deploy from file://");
            return Err(error.help("run it with sudo"));
        }
        match HIDDEN.iter().find(|hidden| base.starts_with(hidden)) {
            None => Ok(url),
            Some(hidden) => {
                let error = what().because(format!("deployd does not see {hidden}"));
                Err(error.help("put the release below /srv"))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let peer = ConnectInfo::<Peer>::from_request_parts(parts, state).await;
        let refused = |who: &str| {
            let error = Error::usage(format!("serve {who}"));
            let error = error.because(format!("only root and the group {OPERATORS} may ask"));
            Failure(error.help(format!("run it with sudo, or join the group {OPERATORS}")))
        };
        match peer {
            Ok(ConnectInfo(Peer { ids: Some((uid, gid)), pid, handed })) => {
                let name = user::name(uid);
                if uid != 0 && !user::is_member(uid, gid, OPERATORS) {
                    return Err(refused(&name));
                }
                if uid != 0 && runs_an_app(uid, &name)? {
                    return Err(refused_to_an_app(&name));
                }
                let name = acting_for(name, uid, parts.headers.get(BY))?;
                Ok(Caller { name, uid, pid, handed, is_root: uid == 0 })
            }
            _ => Err(refused("a caller without credentials")),
        }
    }
}

/// Returns the caller with the person or job that it acts for: `ada (root)`. Others than root are
/// only who they are.
fn acting_for(name: String, uid: u32, by: Option<&HeaderValue>) -> Result<String, Failure> {
    let Some(by) = by else { return Ok(name) };
    if uid != 0 {
        let error = Error::usage(format!("act for another than {name}"));
        let error = error.because("only root may give --by").with_reason(Reason::NotAllowed);
        return Err(Failure(error.help("leave it out, or run it with sudo")));
    }
    let by = String::from_utf8_lossy(by.as_bytes()).into_owned();
    Ok(format!("{} ({name})", model::text::line(by.trim(), LONGEST_BY)))
}

/// Whether this user runs the processes or the builds of an app.
fn runs_an_app(uid: u32, name: &str) -> Result<bool> {
    // A mistake in agent.env locks nobody out of `deploy status`.
    let shared = context::load_settings().ok().and_then(|(_, settings)| settings.user);
    if shared.as_deref() == Some(name) {
        return Ok(true);
    }
    for app in Store::at(context::state_dir()).apps()? {
        let accounts = [app.name().user(), app.name().builder()];
        // An app that cannot be read locks no user out.
        let releases = app.snapshot().map(|snapshot| snapshot.releases).unwrap_or_default();
        let mut releases = releases.iter();
        if accounts.iter().any(|account| account == name)
            || releases.any(|one| one.uids.contains(&uid) || one.plan.user == name)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses a user of an app that is in the group: no app may control the agent.
fn refused_to_an_app(name: &str) -> Failure {
    let error = Error::usage(format!("serve {name}"));
    let error = error.because("apps run as this user, and no app may control the agent");
    Failure(error.help(format!("`gpasswd -d {name} {OPERATORS}`, and run it as another user")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_alone_acts_for_others_and_stays_known() {
        let of = |uid, by: &[u8]| {
            let by = HeaderValue::from_bytes(by).expect("a header");
            acting_for(if uid == 0 { "root" } else { "bob" }.to_owned(), uid, Some(&by))
        };
        assert_eq!(of(0, "Zo\u{eb} K".as_bytes()).ok().as_deref(), Some("Zo\u{eb} K (root)"));
        assert_eq!(of(0, b"a\tb\xff").ok().as_deref(), Some("a b\u{fffd} (root)"));
        assert_eq!(of(0, &[b'a'; 500]).ok().map(|name| name.len()), Some(LONGEST_BY + 7));
        let Err(Failure(error)) = of(1000, b"ada") else { panic!("it is refused") };
        assert_eq!(error.reason(), Reason::NotAllowed);
        assert_eq!(acting_for("bob".to_owned(), 1000, None).ok().as_deref(), Some("bob"));
    }
}
