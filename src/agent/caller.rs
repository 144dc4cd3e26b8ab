//! Access control of the control socket.

use super::connections::Bounded;
use super::handed::Handed;
use super::respond::Failure;
use crate::context::{self, OPERATORS};
use crate::host::user;
use crate::store::Store;
use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use model::error::{Error, Result};
use model::release::url::{ReleaseUrl, Scheme};

/// The peer of a connection; unix(7), SO_PEERCRED.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    ids: Option<(u32, u32)>,
    handed: Handed,
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        let credentials = stream.io().stream.peer_cred().ok();
        Peer {
            ids: credentials.map(|peer| (peer.uid(), peer.gid())),
            handed: stream.io().handed.clone(),
        }
    }
}

/// Directories that deployd.service hides from deployd, since any user can write to them.
const HIDDEN: [&str; 4] = ["/tmp", "/var/tmp", "/home", "/run/user"];

/// A permitted user: root, or a member of the group `deploy`.
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) uid: u32,
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
            Ok(ConnectInfo(Peer { ids: Some((uid, gid)), handed })) => {
                let name = user::name(uid);
                if uid != 0 && !user::is_member(uid, gid, OPERATORS) {
                    return Err(refused(&name));
                }
                if uid != 0 && runs_an_app(uid, &name)? {
                    return Err(refused_to_an_app(&name));
                }
                Ok(Caller { name, uid, handed, is_root: uid == 0 })
            }
            _ => Err(refused("a caller without credentials")),
        }
    }
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
