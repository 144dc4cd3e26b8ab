//! Users and groups of the machine.

use crate::error::{Error, Result};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;

/// The numeric identity of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// Looks a user up by name.
pub fn ids(name: &str) -> Result<Ids> {
    let what = || format!("look up the user {name} that apps run as");
    let help = "create the user (the package does: `systemd-sysusers`), or correct DEPLOY_USER";
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Ids { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        Ok(None) => Err(Error::failed(what()).because("there is no such user").help(help)),
        Err(error) => Err(Error::failed(what()).because(error)),
    }
}

/// The name of a user, or its number where it has none.
pub fn name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// Whether the user is in the group, by its primary group or the group's list.
pub fn is_member(uid: u32, gid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    if gid == group.gid.as_raw() {
        return true;
    }
    let Ok(name) = CString::new(name(uid)) else { return false };
    getgrouplist(&name, Gid::from_raw(gid)).is_ok_and(|groups| groups.contains(&group.gid))
}
