//! systemd, control groups, and the kernel's part of the sandbox.

use super::Instance;
use crate::host::namespaces;
use model::doctor::{Check, OLDEST_SYSTEMD, Row};

pub async fn systemd(instance: &Instance) -> Row {
    match instance.cx.machine.version().await {
        Ok(text) => version(&text),
        Err(error) => Row::of_error(Check::Systemd, &error),
    }
}

/// Judges a version such as `252.22-1~deb12u1` or `v255`.
fn version(text: &str) -> Row {
    let text = model::text::shortened(text);
    let digits: String =
        text.trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(number) if number >= OLDEST_SYSTEMD => {
            Row::ok(Check::Systemd, format!("version {text}"))
        }
        Ok(_) => {
            let remedy =
                format!("upgrade the system to one with systemd {OLDEST_SYSTEMD} or later");
            let text = format!(
                "version {text} is older than {OLDEST_SYSTEMD}, with which nothing is tested"
            );
            Row::failed(Check::Systemd, text, remedy)
        }
        Err(_) => Row::skipped(Check::Systemd, format!("its version {text} has no number")),
    }
}

pub async fn cgroup(instance: &Instance) -> Row {
    let Some(controllers) = instance.read("/sys/fs/cgroup/cgroup.controllers") else {
        let text = "version 1: a process killed for its memory is reported as killed, without \
                    the reason";
        let remedy = "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line";
        return Row::warning(Check::Cgroup, text, remedy);
    };
    let missing: Vec<String> = ["memory", "pids"]
        .into_iter()
        .filter(|name| !controllers.split_whitespace().any(|found| found == *name))
        .map(str::to_owned)
        .collect();
    if missing.is_empty() {
        return Row::ok(Check::Cgroup, "version 2");
    }
    let text = format!(
        "version 2 without {}: DEPLOY_MEMORY_MAX and DEPLOY_MAX_TASKS have no effect",
        super::list(&missing)
    );
    let remedy = "boot without cgroup_disable= on the kernel's command line";
    Row::warning(Check::Cgroup, text, remedy)
}

pub async fn sandbox(_: &Instance) -> Row {
    if namespaces::kernel().user_namespaces {
        return Row::ok(Check::Sandbox, "all of its features are available");
    }
    let text = "user namespaces are off: processes run without PrivateUsers=yes, and see the \
                processes of other users";
    let remedy = "remove user.max_user_namespaces=0 from /etc/sysctl.d, run `sysctl --system`, \
                  and `deploy restart` each app; without that all other walls stand";
    Row::warning(Check::Sandbox, text, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::doctor::Health;

    #[test]
    fn a_version_is_judged_by_its_number() {
        for (text, result) in [
            ("252.22-1~deb12u1", Health::Ok),
            ("v255.4", Health::Ok),
            ("249.11-0ubuntu3", Health::Failed),
            ("247.3-7+deb11u4", Health::Failed),
            ("rolling", Health::Skipped),
        ] {
            assert_eq!(version(text).result, result, "{text}");
        }
    }
}
