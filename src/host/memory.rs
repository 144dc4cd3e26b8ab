//! What the process keeps of the machine's memory.

/// Gives the memory that finished work has left back to the kernel; glibc keeps
/// it otherwise. malloc_trim(3)
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called at any time by any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
