//! How much of the machine a thread may have beside others.

use nix::libc;

/// Puts the calling thread behind everything else: the lowest nice value, which is
/// also what its disk work is weighed by. setpriority(2), ioprio_set(2)
pub fn lowest() {
    // SAFETY: it takes no pointer; 0 is the calling thread, whose value may always rise.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
    }
}
