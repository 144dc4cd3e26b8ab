//! The users that the agent makes for apps, and removes with them.

use super::systemd::Systemd;
use super::transient::{Command, Ending};
use super::user::{Ids, find, ids_of};
use model::error::{Error, Result};
use std::path::Path;
use std::time::Duration;

/// Creates users in the system's own range: their journal is the system's, and login screens do
/// not show them.
const SYSUSERS: &str = "/usr/bin/systemd-sysusers";
const USERDEL: &str = "/usr/sbin/userdel";
/// The timeout of either program, which usually takes milliseconds; another program may hold the
/// lock of /etc/passwd.
const LONGEST: Duration = Duration::from_secs(60);

/// A user to create; all fields are text that needs no quotes in sysusers.d(5).
pub struct Wanted {
    pub name: String,
    /// Its primary group, if not its own.
    pub group: Option<String>,
    /// Its purpose. An existing user with another comment belongs to someone else.
    pub comment: String,
    pub home: String,
}

/// Creates missing users, and returns the ids of all.
pub async fn make(systemd: &Systemd, wanted: &[Wanted]) -> Result<Vec<Ids>> {
    if wanted.iter().any(|user| !matches!(find(&user.name), Ok(Some(_)))) {
        add(systemd, wanted).await?;
    }
    wanted.iter().map(its_own).collect()
}

async fn add(systemd: &Systemd, wanted: &[Wanted]) -> Result<()> {
    let mut argv = vec![SYSUSERS.to_owned(), "--inline".to_owned()];
    argv.extend(wanted.iter().map(Wanted::line));
    let names: Vec<&str> = wanted.iter().map(|user| user.name.as_str()).collect();
    let names = names.join(", ");
    let help = "see whether /etc can be written to, and is not locked (/etc/.pwd.lock)";
    let what = format!("make the users {names}");
    run(systemd, "deployd-sysusers", what, argv).await.map_err(|error| error.help(help))
}

/// Returns the ids of the user, unless its name belongs to someone else.
fn its_own(wanted: &Wanted) -> Result<Ids> {
    let what = || Error::usage(format!("run as the user {}", wanted.name));
    let Some(user) = find(&wanted.name)? else {
        return Err(what().because("it is not there although it was made"));
    };
    if user.gecos.to_string_lossy() != wanted.comment {
        let why = format!("it is not the agent's own, which is called {:?}", wanted.comment);
        return Err(what().because(why).help("rename that user, or the app"));
    }
    Ok(ids_of(&user))
}

/// Removes users with these names and comments, if they exist.
pub async fn remove(systemd: &Systemd, users: &[Wanted]) -> Result<()> {
    for user in users {
        if find(&user.name)?.is_some() && its_own(user).is_ok() {
            let argv = vec![USERDEL.to_owned(), user.name.clone()];
            let what = format!("remove the user {}", user.name);
            run(systemd, "deployd-userdel", what, argv).await?;
        }
    }
    Ok(())
}

async fn run(systemd: &Systemd, unit: &str, what: String, argv: Vec<String>) -> Result<()> {
    /// One run at a time: the units have the same name.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    if let Some(program) = argv.first().filter(|program| !Path::new(program).exists()) {
        return Err(Error::failed(what).because(format!("{program} is not there")));
    }
    let command = Command {
        unit: unit.to_owned(),
        description: "Users of the deployed apps".to_owned(),
        argv,
        timeout: LONGEST,
        properties: Vec::new(),
    };
    let mut said = Vec::new();
    match systemd.run(command, &mut |line| said.push(line)).await? {
        Ending::Success => Ok(()),
        Ending::Failure(why) => Err(Error::failed(what).because(why).with_log(said)),
    }
}

impl Wanted {
    /// Formats the line for sysusers.d(5).
    fn line(&self) -> String {
        let Wanted { name, group, comment, home } = self;
        let id = group.as_ref().map_or("-".to_owned(), |group| format!("-:{group}"));
        format!("u {name} {id} \"{comment}\" {home}")
    }
}
