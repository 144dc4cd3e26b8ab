//! The users of an app: it runs as one of its own, and its builds as another, so that no
//! process of one app can signal, trace or read another app's, and no build a running process.
//! Both are created when first needed and removed with the app.
//!
//! An app that 0.1.0 has deployed keeps the user that it shares with others, since its releases
//! share their files. `deploy restart APP --own-user`, which stops all of it, gives it a user
//! of its own.

use crate::context::{Context, OPERATORS, blocking};
use crate::host::made_users::Wanted;
use crate::host::user::Ids;
use crate::store::{App, Locked};
use model::error::{Error, Result};
use model::installed::Snapshot;
use model::release::name::AppName;

/// The users of an app; they exist.
#[derive(Clone, Debug)]
pub struct Owner {
    pub user: String,
    pub ids: Ids,
    /// The user of its builds; the same as `user` if that is shared.
    pub builder: Builder,
}

#[derive(Clone, Debug)]
pub struct Builder {
    pub user: String,
    pub ids: Ids,
}

impl Owner {
    /// Whether the user is the app's alone.
    pub fn is_own(&self) -> bool {
        self.user != self.builder.user
    }

    /// The uids of the users that are the app's alone.
    pub fn uids(&self) -> Vec<u32> {
        match self.is_own() {
            true => vec![self.ids.uid, self.builder.ids.uid],
            false => Vec::new(),
        }
    }
}

/// Returns the users of the app, and creates missing ones.
pub async fn identities(cx: &Context, app: &App) -> Result<Owner> {
    match shared(cx, &app.snapshot()?) {
        Some(user) => {
            let ids = ids_of_shared(cx, &user)?;
            Ok(Owner { builder: Builder { user: user.clone(), ids }, user, ids })
        }
        None => own(cx, app.name()).await,
    }
}

/// The same for the app's own users.
pub async fn own(cx: &Context, app: &AppName) -> Result<Owner> {
    let made = cx.machine.make_users(&wanted(cx, app)).await?;
    let [ids, builds] = made[..] else {
        let what = format!("make the users of {app}");
        return Err(Error::failed(what).because("there are not two of them"));
    };
    check(cx, &app.user(), ids)?;
    check(cx, &app.builder(), builds)?;
    let builder = Builder { user: app.builder(), ids: builds };
    Ok(Owner { user: app.user(), ids, builder })
}

/// Removes the app's own users, once nothing else of the app is left.
pub async fn remove(cx: &Context, app: &AppName) -> Result<()> {
    let [user, builder] = wanted(cx, app);
    // The group is removed with its own user, and only if it has no other members.
    cx.machine.remove_users(&[builder, user]).await
}

/// The user that the app may share with others: the one that the settings name, or that of the
/// release that 0.1.0 has left here. None if the app has its own.
pub fn shared(cx: &Context, app: &Snapshot) -> Option<String> {
    let own = app.app.user();
    let inherited = || {
        let newest = app.current().or(app.releases.last())?;
        (newest.plan.user != own).then(|| newest.plan.user.clone())
    };
    cx.settings.user.clone().or_else(inherited)
}

/// Whether the app may get a user of its own.
pub fn may_move(cx: &Context, app: &Snapshot) -> bool {
    cx.settings.user.is_none() && shared(cx, app).is_some()
}

/// Gives an app without running processes a user of its own.
pub async fn move_in(cx: &Context, app: &Locked) -> Result<()> {
    let Some(user) = shared(cx, &app.snapshot()?) else { return Ok(()) };
    let from = cx.machine.ids(&user)?;
    let owner = own(cx, app.name()).await?;
    blocking(|| app.move_in(&owner.user, from, owner.ids, &owner.uids()))
}

/// Ensures that the app's users exist and own its files: its state may have come from another
/// machine, where the users had other numbers. No process of the app may run.
pub async fn settle_in(cx: &Context, app: &Locked) -> Result<()> {
    let snapshot = app.snapshot()?;
    let own_user = app.name().user();
    let of_own = snapshot.releases.iter().filter(|manifest| manifest.plan.user == own_user);
    let Some(former) = of_own.map(|manifest| manifest.uids.clone()).next_back() else {
        return Ok(());
    };
    let owner = own(cx, app.name()).await?;
    match former.first() {
        Some(uid) if former != owner.uids() => {
            let from = Ids { uid: *uid, gid: *uid };
            blocking(|| app.move_in(&owner.user, from, owner.ids, &owner.uids()))
        }
        _ => Ok(()),
    }
}

fn ids_of_shared(cx: &Context, name: &str) -> Result<Ids> {
    let ids = cx.machine.ids(name)?;
    check(cx, name, ids)?;
    Ok(ids)
}

/// Refuses a user that could control the agent.
fn check(cx: &Context, name: &str, ids: Ids) -> Result<()> {
    if ids.uid != 0 && !cx.machine.is_member(ids, OPERATORS) {
        return Ok(());
    }
    let why = format!("it is root, or in the group {OPERATORS}: apps could control the agent");
    let help = format!("`gpasswd -d {name} {OPERATORS}`, or correct DEPLOY_USER");
    Err(Error::usage(format!("run apps as the user {name}")).because(why).help(help))
}

fn wanted(cx: &Context, app: &AppName) -> [Wanted; 2] {
    let home = cx.store.app(app).shared().to_string_lossy().into_owned();
    [
        Wanted {
            name: app.user(),
            group: None,
            comment: format!("App {app} of deploy-agent"),
            home: home.clone(),
        },
        Wanted {
            name: app.builder(),
            group: Some(app.user()),
            comment: format!("Builds of {app} by deploy-agent"),
            home,
        },
    ]
}
