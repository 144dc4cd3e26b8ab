//! What the process keeps of the machine's memory.

use nix::libc;

/// Allocations that are larger come from the kernel each time, page by page, and go
/// back to it; bytes. What is read of a connection at once is 400 KiB or so.
const OWN: libc::c_int = 1 << 20;
/// What is free at the end of the heap goes back where it is more; bytes. It is more
/// than a stage needs: [`give_back`] is what ends it.
const KEPT: libc::c_int = 64 << 20;

/// Has all threads use one heap, and freed memory again while there is work: a heap for
/// each would keep 2 MB more after a deploy. For a process of one thread. mallopt(3)
pub fn share() {
    // SAFETY: they take no pointer; what is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// All memory of the machine; bytes. proc_meminfo(5)
pub fn total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Gives the memory that finished work has left back to the kernel; glibc keeps
/// it otherwise. malloc_trim(3)
pub fn give_back() {
    // SAFETY: it takes no pointer, and may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
