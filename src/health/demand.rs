//! The requirements on a healthy `web` process: it listens where its clients can reach it, and
//! responds.

use crate::host::accept::{Accepted, PATIENCE};
use crate::host::probe::Request;
use crate::host::seams::{Machine, Network};
use model::release::manifest::Manifest;
use model::release::reach::{Endpoint, Families};
use model::release::settings::{Clients, Statuses};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The requirements, which are the same for all processes of a release.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub network: Arc<dyn Machine>,
    pub clients: Clients,
    /// The families over which each process must be reached. Empty: any family will do.
    pub families: Families,
    /// None if a connection is enough.
    pub request: Option<Request>,
    /// Whether the process itself must accept a connection, where nothing is requested: the kernel
    /// makes connections for a process that hangs.
    pub must_accept: bool,
    pub statuses: Statuses,
}

/// How clients reach a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub families: Families,
    /// The address at which this machine itself reaches the process.
    pub address: Option<IpAddr>,
}

/// A requirement that a process does not meet, and what would help.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shortfall {
    pub why: String,
    pub help: String,
}

impl Shortfall {
    fn new(why: impl Into<String>, help: impl Into<String>) -> Shortfall {
        Shortfall { why: why.into(), help: help.into() }
    }
}

impl Demand {
    pub fn new(network: &Arc<dyn Machine>, manifest: &Manifest) -> Demand {
        let mut demand = Demand::of_new(network, manifest);
        // 0.1.0 accepted any address when it proved the release: an upgrade must not stop it.
        if manifest.state.is_good() && manifest.serves.is_none() {
            demand.accept_any_address();
        }
        demand
    }

    /// The requirements on a release that was not proved yet, whatever its manifest records.
    pub fn of_new(network: &Arc<dyn Machine>, manifest: &Manifest) -> Demand {
        let plan = &manifest.plan;
        let served = manifest.serves.map(|served| served.and(network.families()));
        let families = match plan.clients {
            Clients::Anywhere => served
                .filter(|served| !served.is_empty())
                .unwrap_or_else(|| usual_families(&**network)),
            Clients::Local => Families::default(),
        };
        let request = plan.health_path.clone().map(|path| {
            let host = plan.health_host.clone();
            Request { path, host }
        });
        Demand {
            network: network.clone(),
            clients: plan.clients,
            families,
            request,
            must_accept: false,
            statuses: plan.health_status.clone(),
        }
    }

    pub fn accept_any_address(&mut self) {
        (self.clients, self.families) = (Clients::Local, Families::default());
    }

    /// Checks where a process listens, and that it responds there. Returns how its clients
    /// reach it.
    pub async fn check(&self, endpoints: &[Endpoint], port: u16) -> Result<Reach, Shortfall> {
        let (on_port, others): (Vec<_>, Vec<_>) =
            endpoints.iter().copied().partition(|endpoint| endpoint.port == port);
        if on_port.is_empty() {
            return Err(elsewhere(&others, port));
        }
        let reached = Families::reached(&on_port, self.clients);
        let missing = self.families.without(reached);
        if reached.is_empty() || !missing.is_empty() {
            return Err(unreachable(&on_port, missing));
        }
        let mut address = None;
        for endpoint in &on_port {
            if !endpoint.families(self.clients).is_empty() {
                self.answers(endpoint).await?;
                address = address.or(Some(endpoint.target().ip()));
            }
        }
        Ok(Reach { families: reached, address })
    }

    /// Connects to the public port as a client on this machine does. The kernel takes such
    /// connections the same way as those from other machines, through the port map.
    pub async fn public_path(&self, reach: Reach, port: u16) -> Result<(), Shortfall> {
        let Some(address) = reach.address else { return Ok(()) };
        let at = SocketAddr::from((address, port));
        let help = "see whether `nft list table inet deploy` has the port, and what else \
                    `nft list ruleset` does with it; `systemctl restart deployd-ports` loads the \
                    port map again";
        let shortfall = |error| {
            let why = format!("the process answers, but its public port {at} does not: {error}");
            Shortfall::new(why, help)
        };
        self.network.connect(at).await.map_err(shortfall)
    }

    async fn accepts(&self, at: SocketAddr) -> Result<(), Shortfall> {
        let accepted = match self.must_accept {
            true => self.network.accepted(at).await,
            false => self.network.connect(at).await.map(|()| Accepted::Yes),
        };
        let others = match accepted {
            Ok(Accepted::Yes) => return Ok(()),
            Ok(Accepted::No { others: 0 }) => String::new(),
            Ok(Accepted::No { others: 1 }) => ", and 1 client waits".to_owned(),
            Ok(Accepted::No { others }) => format!(", and {others} clients wait"),
            Err(error) => {
                let help = "it must accept connections on $PORT";
                return Err(Shortfall::new(format!("connect to {at}: {error}"), help));
            }
        };
        let why = format!("it has accepted no connection for {} s{others}", PATIENCE.as_secs());
        Err(Shortfall::new(why, "it hangs, or works on one request for longer: see its log"))
    }

    async fn answers(&self, endpoint: &Endpoint) -> Result<(), Shortfall> {
        let at = endpoint.target();
        let Some(request) = &self.request else {
            return self.accepts(at).await;
        };
        let path = &request.path;
        let statuses = &self.statuses;
        match self.network.get(at, request).await {
            Ok(answer) if statuses.contains(answer.status) => Ok(()),
            Ok(answer) => {
                let to = answer.location.map(|to| format!(" to {to}")).unwrap_or_default();
                let why = format!("GET {path} at {at} answered {}{to}", answer.status);
                Err(Shortfall::new(why, self.status_help(answer.status, &request.host)))
            }
            Err(error) => {
                let why = format!("GET {path} at {at}: {error}");
                let help = format!("DEPLOY_HEALTH_PATH must answer with a status of {statuses}");
                Err(Shortfall::new(why, help))
            }
        }
    }

    fn status_help(&self, status: u16, host: &str) -> String {
        let statuses = &self.statuses;
        match status {
            300..=399 => format!(
                "redirects are not followed: name the path that answers by itself as \
                 DEPLOY_HEALTH_PATH, or let DEPLOY_HEALTH_STATUS ({statuses}) include {status}"
            ),
            400 | 403 | 421 => format!(
                "frameworks refuse hosts that they do not know, and this request had the Host \
                 {host}: set DEPLOY_HEALTH_HOST to a name that the app accepts"
            ),
            401 => format!(
                "name a path that needs no login as DEPLOY_HEALTH_PATH, or let \
                 DEPLOY_HEALTH_STATUS ({statuses}) include {status}"
            ),
            _ => format!(
                "DEPLOY_HEALTH_PATH must answer with one of DEPLOY_HEALTH_STATUS ({statuses})"
            ),
        }
    }
}

/// The families that a release must serve by default: IPv4, or IPv6 on an instance that has
/// nothing else.
fn usual_families(network: &dyn Network) -> Families {
    match network.families() {
        Families { ipv4: false, ipv6: true } => Families::IPV6,
        _ => Families::IPV4,
    }
}

fn elsewhere(others: &[Endpoint], port: u16) -> Shortfall {
    let help = "the process must bind 0.0.0.0 (or [::]) and $PORT";
    match others {
        [] => Shortfall::new(
            format!("it does not listen on port {port}"),
            "it has opened no port at all: raise DEPLOY_HEALTH_TIMEOUT if it takes longer to \
             boot, or let it bind 0.0.0.0 (or [::]) and $PORT",
        ),
        others => {
            let why = format!("it listens on {}, not on port {port}", list(others));
            Shortfall::new(why, help)
        }
    }
}

fn unreachable(on_port: &[Endpoint], missing: Families) -> Shortfall {
    let loopback = |endpoint: &Endpoint| endpoint.address.to_canonical().is_loopback();
    let found = list(on_port);
    if on_port.iter().all(loopback) {
        let why = format!("it listens on {found}, where no client from another machine reaches it");
        return Shortfall::new(
            why,
            "let it bind 0.0.0.0 or [::] (flask and uvicorn: --host 0.0.0.0; Node: \
             listen(process.env.PORT) without 'localhost'); if its only client is a proxy on \
             this instance, set DEPLOY_CLIENTS=local",
        );
    }
    let why =
        format!("it listens on {found}, where clients that come over {missing} do not reach it");
    let help = match missing.ipv6 {
        false => "let it bind 0.0.0.0, or [::] without IPV6_V6ONLY",
        true => {
            "let it bind [::], which serves IPv4 as well: clients reach the release that runs \
                 now over IPv6"
        }
    };
    Shortfall::new(why, help)
}

fn list(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
