//! Adds the private ports to the kernel's list of ports that no outgoing connection gets.

use crate::release::ports::PRIVATE;

/// The kernel's list; ip(7).
pub const LIST: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// The list before the range was added: the ports of other programs.
pub const OTHERS: &str = "/run/deploy/reserved-by-others";
pub const SHELL: &str = "/bin/sh";

/// The line of a unit that does the same at boot.
pub fn at_boot() -> String {
    format!("ExecStartPre=-:{SHELL} -c '[ -e {OTHERS} ] || {{ {}; }}'\n", script())
}

/// The script that adds the range. The kernel merges ranges, and accepts a port twice.
pub fn script() -> String {
    let (first, last) = (PRIVATE.start(), PRIVATE.end());
    let own = format!("{first}-{last}");
    format!(
        "list=$(cat {LIST}) && mkdir -p /run/deploy && echo \"$list\" >{OTHERS} && \
         echo \"${{list:+$list,}}{own}\" >{LIST}"
    )
}
