//! Restarts and changes of the number of processes while clients are served.

use crate::handover::unnoticed;
use testkit::graceful::{SERVER, graceful, serving_r1};
use testkit::host::Host;

/// A release whose `web` takes this long to boot, in seconds.
fn boots_in(seconds: u32) -> testkit::app::Release {
    let slow =
        SERVER.replacen("import ", &format!("__import__('time').sleep({seconds})\nimport "), 1);
    graceful("r2").file("server.py", slow)
}

#[test]
fn no_client_notices_a_restart_of_the_only_process_which_boots_in_12_seconds() {
    let host = serving_r1();
    host.publish(&boots_in(12));
    host.deploys("r2");
    let before = host.pid("web.1");
    unnoticed(&host, || {
        let said = host.deploy(&["restart"]).ok();
        assert!(said.starts_with("restarted my-app web.1"), "{said}");
    });
    assert_ne!(host.pid("web.1"), before);
    assert_eq!(host.status()["processes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn no_client_notices_a_scaling_or_a_restart_of_several_processes() {
    let host = serving_r1();
    let before = host.pid("web.1");
    unnoticed(&host, || {
        let said = host.deploy(&["scale", "web=3"]).ok();
        assert!(said.starts_with("scaled my-app: web from 1 to 3"), "{said}");
        host.deploy(&["restart"]).exits(0);
        host.deploy(&["restart", "web.2"]).exits(0);
        assert_eq!(host.status()["processes"].as_array().map(Vec::len), Some(3));
        let shown = host.deploy(&["status"]).ok();
        assert!(shown.contains("web=3, and the release has 1"), "{shown}");
        host.deploy(&["scale", "my-app", "web=1"]).exits(0);
    });
    assert_ne!(host.pid("web.1"), before);
    assert_eq!(
        host.sh("systemctl list-units --plain --no-legend 'deploy-my-app-web-*' | wc -l"),
        "1\n"
    );
}

#[test]
fn a_restart_applies_agent_env_and_a_new_process_has_a_home() {
    let host = Host::running_r1();
    host.configure("DEPLOY_MEMORY_MAX=300M\n");
    let shown = host.deploy(&["status"]).ok();
    assert!(shown.contains("agent.env changed: `deploy restart my-app` applies it"), "{shown}");
    host.deploy(&["restart"]).exits(0);
    let limit = host.sh("systemctl show -P MemoryMax deploy-my-app-web-r1@1");
    assert_eq!(limit, format!("{}\n", 300u64 << 20));
    assert!(!host.deploy(&["status"]).ok().contains("agent.env changed"));
    host.deploy(&["scale", "web=2"]).exits(0);
    host.sh("cd /var/lib/deploy/apps/my-app/releases/r1/home; test -d web.2; stat -c %U web.2 | grep app-");
}
