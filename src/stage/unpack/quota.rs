//! Counts the unpacked entries and bytes, and compares them with the limits.

use super::entry_error::EntryError;
use super::{Limits, Unpacked};

pub(super) struct Quota<'a> {
    done: Unpacked,
    limits: Limits,
    progress: &'a dyn Fn(u64, u64),
}

impl<'a> Quota<'a> {
    pub(super) fn new(limits: Limits, progress: &'a dyn Fn(u64, u64)) -> Self {
        Quota { done: Unpacked { files: 0, bytes: 0 }, limits, progress }
    }

    pub(super) fn done(&self) -> Unpacked {
        self.done
    }

    /// Counts an entry before it is created.
    pub(super) fn entry(&mut self) -> Result<(), EntryError> {
        let most = self.limits.max_files;
        if self.done.files >= most {
            return Err(EntryError::refused(format!("the archive holds more than {most} entries"))
                .with_help(
                    "raise DEPLOY_MAX_FILES in /etc/deploy/agent.env, or pack fewer files",
                ));
        }
        self.done.files += 1;
        (self.progress)(self.done.files, self.done.bytes);
        Ok(())
    }

    /// Refuses a file of `size` bytes that exceeds the limit, before any of it is written.
    pub(super) fn check(&self, size: u64) -> Result<(), EntryError> {
        let most = self.limits.max_bytes;
        if size > most - self.done.bytes.min(most) {
            return Err(EntryError::refused(format!(
                "with its {size} bytes the archive unpacks to more than {most} bytes"
            ))
            .with_help("raise DEPLOY_MAX_UNPACKED in /etc/deploy/agent.env, or pack less"));
        }
        Ok(())
    }

    /// Counts bytes of a file that [`check`](Self::check) has accepted.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.done.bytes += bytes;
        (self.progress)(self.done.files, self.done.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_to_the_limits_and_not_beyond() {
        let limits = Limits { max_bytes: 10, max_files: 1 };
        let mut quota = Quota::new(limits, &|_, _| {});
        quota.entry().unwrap();
        assert!(quota.entry().is_err());
        quota.check(10).unwrap();
        quota.wrote(4);
        quota.check(6).unwrap();
        assert!(quota.check(7).is_err());
        assert!(quota.check(u64::MAX).is_err());
        assert_eq!(quota.done(), Unpacked { files: 1, bytes: 4 });
    }
}
