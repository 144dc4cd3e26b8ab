//! nftables, the port map, the ports of apps, and the kernel's table of connections.

use super::state::current;
use super::{Instance, aside};
use crate::converge::ports as map;
use model::doctor::{Check, Row};
use model::release::env::Env;
use model::release::settings::{ReleaseSettings, Strategy};
use model::units;

pub async fn nftables(instance: &Instance) -> Row {
    let usual = ReleaseSettings::merge(&instance.cx.agent_env, &Env::default());
    let hands_over = usual.is_ok_and(|usual| usual.strategy == Strategy::Handover)
        || current(instance).iter().any(|(_, one)| one.plan.strategy == Strategy::Handover);
    if !hands_over {
        return Row::skipped(Check::Nftables, "DEPLOY_STRATEGY=restart needs none");
    }
    match instance.cx.machine.cannot_load(&units::ports::example()).await {
        Ok(None) => Row::ok(Check::Nftables, "nft and the kernel accept the port map"),
        Ok(Some(error)) | Err(error) => Row::of_error(Check::Nftables, &error),
    }
}

/// Whether the kernel leads clients to the current release of each app.
pub async fn port_map(instance: &Instance) -> Row {
    let (mut missing, mut found) = (Vec::new(), Vec::new());
    for (app, manifest) in current(instance) {
        let Some(snapshot) = app.seen().snapshot else { continue };
        if manifest.plan.private_ports.is_empty() {
            continue;
        }
        let port = manifest.plan.port;
        match map::lead_to(&instance.cx, &snapshot).await {
            true => found.push(port.to_string()),
            false => missing.push(format!("{port} of {}", app.name())),
        }
    }
    if !missing.is_empty() {
        let text = format!("clients are not led to port {}", super::list(&missing));
        let remedy = "look with `nft list table inet deploy` for what changes it (another \
                      firewall), then `systemctl restart deployd`, which loads it again";
        return Row::failed(Check::PortMap, text, remedy);
    }
    match found.is_empty() {
        true => Row::skipped(Check::PortMap, "no installed app needs one"),
        false => Row::ok(Check::PortMap, format!("in place for port {}", super::list(&found))),
    }
}

/// Whether another program has a port of an installed app.
pub async fn ports(instance: &Instance) -> Row {
    let machine = &instance.cx.machine;
    let bound = {
        let machine = machine.clone();
        aside(move || machine.bound_ports()).await
    };
    let Some(bound) = bound else {
        return Row::skipped(Check::Ports, "the ports in use cannot be listed");
    };
    let (mut taken, mut ours) = (Vec::new(), Vec::new());
    for (app, manifest) in current(instance) {
        let own = units::slice(app.name());
        let public = manifest.plan.public_ports();
        ours.extend(public.iter().map(u16::to_string));
        for port in public.into_iter().chain(manifest.plan.private_ports.iter().copied()) {
            if !bound.contains(&port) {
                continue;
            }
            let (machine, own) = (machine.clone(), own.clone());
            let holder = aside(move || machine.listener(port, Some(&own))).await.flatten();
            if let Some(holder) = holder {
                let (name, pid) = (model::text::shortened(&holder.name), holder.pid);
                taken.push(format!("{name} (pid {pid}) has port {port} of {}", app.name()));
            }
        }
    }
    if !taken.is_empty() {
        let remedy = "stop that program, or choose another PORT in the release's env";
        return Row::failed(Check::Ports, super::list(&taken), remedy);
    }
    match ours.is_empty() {
        true => Row::skipped(Check::Ports, "no installed app has a port"),
        false => Row::ok(Check::Ports, format!("no other program has {}", super::list(&ours))),
    }
}

/// Whether the kernel can follow more connections: it drops new ones when the table is full.
pub async fn conntrack(instance: &Instance) -> Row {
    let read = |name: &str| -> Option<u64> {
        instance.read(&format!("/proc/sys/net/netfilter/{name}"))?.trim().parse().ok()
    };
    let (Some(count), Some(max)) = (read("nf_conntrack_count"), read("nf_conntrack_max")) else {
        return Row::skipped(Check::Conntrack, "the kernel does not tell its table's size here");
    };
    let text = format!("{count} of {max} connections");
    let remedy = format!(
        "allow more: `echo net.netfilter.nf_conntrack_max={} >/etc/sysctl.d/90-conntrack.conf`, \
         then `sysctl --system`",
        max.saturating_mul(4)
    );
    match u128::from(count) * 100 / u128::from(max.max(1)) {
        90.. => Row::failed(Check::Conntrack, text, remedy),
        70.. => Row::warning(Check::Conntrack, text, remedy),
        _ => Row::ok(Check::Conntrack, text),
    }
}
