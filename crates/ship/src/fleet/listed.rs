//! A group that ship.toml lists: `hosts = ["web1", "web2"]`.

use super::{Fleet, Host, Instance, Standing};
use async_trait::async_trait;
use model::error::Result;

/// Hosts that are always in service.
pub struct Listed(Vec<Host>);

impl Listed {
    pub fn new(hosts: &[String]) -> Listed {
        let mut hosts: Vec<Host> = hosts.iter().cloned().map(Host).collect();
        hosts.sort();
        hosts.dedup();
        Listed(hosts)
    }
}

#[async_trait]
impl Fleet for Listed {
    async fn instances(&self) -> Result<Vec<Instance>> {
        let instance = |host: &Host| Instance {
            host: host.clone(),
            zone: None,
            standing: Standing::InService,
        };
        Ok(self.0.iter().map(instance).collect())
    }
}
