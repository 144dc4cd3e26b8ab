//! Users and groups of the instance.

use model::error::{Error, Result};
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
    let help = "create the user, or correct DEPLOY_USER";
    let missing = || cannot_find(name).because("there is no such user").help(help);
    find(name)?.map(|user| ids_of(&user)).ok_or_else(missing)
}

pub(super) fn ids_of(user: &User) -> Ids {
    Ids { uid: user.uid.as_raw(), gid: user.gid.as_raw() }
}

pub(super) fn find(name: &str) -> Result<Option<User>> {
    User::from_name(name).map_err(|error| cannot_find(name).because(error))
}

fn cannot_find(name: &str) -> Error {
    Error::failed(format!("look up the user {name} that apps run as"))
}

/// Returns the name of a user, or its uid if it has none.
pub fn name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// Whether there is a group of this name.
pub fn has_group(name: &str) -> bool {
    matches!(Group::from_name(name), Ok(Some(_)))
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
