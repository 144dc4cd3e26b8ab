//! The interfaces to the instance. This module knows nothing of releases: its terms are units,
//! jobs, ports, users and programs.

pub mod accept;
pub mod addresses;
pub mod cgroup;
pub mod child;
pub mod deployd_program;
pub mod descendants;
pub mod disk;
pub mod granted;
pub mod journal;
pub mod linux;
pub mod machine;
pub mod made_users;
pub mod memory;
pub mod namespaces;
mod netlink;
pub mod new_units;
pub mod nftables;
pub mod priority;
pub mod pidfd;
pub mod probe;
#[cfg(test)]
pub mod recorded;
pub mod reserve;
pub mod ruleset;
pub mod seams;
pub mod service_status;
pub mod sock_diag;
pub mod sockets;
pub mod systemd;
pub mod transient;
pub mod user;
