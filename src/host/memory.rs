//! Limits the memory that the process keeps.

use nix::libc;

/// Allocations larger than this many bytes are mapped from the kernel each time, and returned to
/// it. One read of a connection has 400 KiB or so.
const OWN: libc::c_int = 1 << 20;
/// Free memory at the end of the heap is returned if it exceeds this many bytes. The limit is more
/// than a stage needs: [`give_back`] returns the memory when it ends.
const KEPT: libc::c_int = 64 << 20;

/// Makes all threads share one heap, and keeps freed memory for reuse while there is work: a heap
/// for each thread would keep 2 MB more after a deploy. Call it before starting threads.
/// mallopt(3)
pub fn share() {
    // SAFETY: they take no pointer; a refused setting changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Returns the total memory of the instance in bytes. proc_meminfo(5)
pub fn total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kibibytes(&text, "MemTotal:")
}

/// Returns the resident memory of this process in bytes. proc_pid_status(5)
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(&text, "VmRSS:")
}

/// Returns the bytes of a line such as `MemTotal:  1024 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns freed memory to the kernel after work; glibc would keep it. malloc_trim(3)
pub fn give_back() {
    // SAFETY: it takes no pointer, and may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
