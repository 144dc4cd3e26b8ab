//! The priority of a thread.

use nix::libc;

/// Gives the calling thread the lowest priority: nice 19, which also determines the weight of its
/// disk I/O. setpriority(2), ioprio_set(2)
pub fn lowest() {
    // SAFETY: it takes no pointer; 0 is the calling thread, which may always raise its nice value.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
    }
}
