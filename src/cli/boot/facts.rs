//! What the instance's metadata says: who this instance is, and what it is to run.

use super::super::checked;
use super::{Asked, Boot};
use model::error::{Error, Result};
use model::reason::Reason;
use model::text;
use tokio::time::{Instant, sleep};

const TAGS: &str = "tags/instance/";
/// The longest value of a tag that AWS accepts, in characters.
const LONGEST: usize = 256;

const GIVE_URL: &str = "or give the URL: `deploy boot s3://BUCKET/APP/ENVIRONMENT/current`";

/// The instance and its group.
#[derive(Debug)]
pub struct Facts {
    pub id: String,
    pub region: Option<String>,
    /// The lifecycle state that the instance is to reach; none outside of groups.
    pub state: Option<String>,
    /// The names in its tags.
    pub group: Option<String>,
    pub hook: Option<String>,
}

/// What the lifecycle state asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Deploy,
    /// Into a warm pool: have the release ready, and run nothing.
    Stage,
    /// Out of the group.
    Nothing,
}

impl Facts {
    pub fn plan(&self) -> Plan {
        match self.state.as_deref().unwrap_or_default() {
            "Terminated" | "Warmed:Terminated" => Plan::Nothing,
            state if state.starts_with("Warmed:") => Plan::Stage,
            _ => Plan::Deploy,
        }
    }
}

impl Boot<'_> {
    /// Reads the metadata, and waits for the service. The error says why it does not answer.
    pub async fn facts(&self, deadline: Instant) -> Result<Facts, String> {
        let read = async |path: &str| self.read(path, deadline).await;
        let id = read("instance-id").await?.ok_or("it has no instance-id")?;
        Ok(Facts {
            id,
            region: read("placement/region").await?,
            state: read("autoscaling/target-lifecycle-state").await?,
            group: read(&format!("{TAGS}aws:autoscaling:groupName")).await?,
            hook: read(&format!("{TAGS}deploy:hook")).await?,
        })
    }

    /// Reads one text; an empty one counts as none.
    async fn read(&self, path: &str, deadline: Instant) -> Result<Option<String>, String> {
        let mut is_said = false;
        loop {
            let why = match self.metadata.get(path).await {
                Ok(found) => {
                    let found = found.map(|text| text::line(text.trim(), LONGEST));
                    return Ok(found.filter(|text| !text.is_empty()));
                }
                Err(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(why);
            }
            if !std::mem::replace(&mut is_said, true) {
                let why = why.rsplit(": ").next().unwrap_or_default();
                let why = text::shortened(why);
                (self.say)(&format!("waiting for the instance's metadata: {why}"));
            }
            sleep(self.pace.metadata).await;
        }
    }

    /// The URL to deploy: the one given, or that of the tags.
    pub async fn url(
        &self,
        asked: &Asked,
        facts: &Result<Facts, String>,
        deadline: Instant,
    ) -> Result<String> {
        if let Some(url) = &asked.url {
            if let Err(why) = facts {
                let why = text::shortened(why.rsplit(": ").next().unwrap_or_default());
                (self.say)(&format!("no metadata service, so no lifecycle hook: {why}"));
            }
            return checked(url.clone());
        }
        let what = || Error::usage("find out what this instance is to run");
        let silent = |why: String| {
            let error = Error::source("find out what this instance is to run");
            let error = error.because(format!("its metadata cannot be read: {why}"));
            let help = format!("allow its metadata service (IMDSv2), {GIVE_URL}");
            error.with_reason(Reason::NoAnswer).help(help)
        };
        if let Err(why) = facts {
            return Err(silent(why.clone()));
        }
        let tag =
            async |name: &str| self.read(&format!("{TAGS}{name}"), deadline).await.map_err(silent);
        if tag("").await?.is_none() {
            let help = format!(
                "set InstanceMetadataTags=enabled in the launch template's metadata options, \
                 {GIVE_URL}"
            );
            return Err(what().because("its metadata has no tags").help(help));
        }
        let url = match tag("deploy:url").await? {
            Some(url) => url,
            None => {
                let names = ["deploy:store", "deploy:app", "deploy:environment"];
                let [store, app, environment] =
                    [tag(names[0]).await?, tag(names[1]).await?, tag(names[2]).await?];
                let (Some(store), Some(app), Some(environment)) = (&store, &app, &environment)
                else {
                    let values = [store, app, environment];
                    let missing = names.iter().zip(&values).filter(|(_, value)| value.is_none());
                    let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
                    let why = format!("its tags lack deploy:url, and {}", missing.join(", "));
                    let help = format!("add the tags, propagated at launch, {GIVE_URL}");
                    return Err(what().because(why).help(help));
                };
                format!("{}/{app}/{environment}/current", store.trim_end_matches('/'))
            }
        };
        checked(url).map_err(|error| {
            let help = "correct the tag deploy:url, or deploy:store, deploy:app and \
                        deploy:environment";
            what().because(error).help(help)
        })
    }
}
