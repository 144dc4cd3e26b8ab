//! Disk space for a release: checked before the fetch, gained by pruning old releases, and
//! reported in numbers when it is short.

use crate::context::{Context, blocking};
use crate::host::disk::Space;
use crate::source::Resolved;
use crate::store::{App, Locked};
use indicatif::HumanBytes;
use model::error::{Error, Result};
use model::event::Step;
use model::installed::Snapshot;
use model::reason::Reason;
use model::release::manifest::Manifest;
use model::release::name::Label;
use model::retention;

/// Inodes that every release has besides its files: its own directory, the tree's, env and
/// release.json, and a Procfile.
const LEAST_INODES: u64 = 5;

/// An archive more than this many times as large as the previous one predicts nothing.
const ALIKE: u64 = 4;

const HELP: &str = "free space or inodes (df -h, df -i), enlarge the volume, or keep fewer \
                    releases (DEPLOY_KEEP_RELEASES)";

/// The space that a release needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub bytes: u64,
    pub inodes: u64,
}

/// How far an archive was unpacked when the disk was full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// Bytes of the archive that the unpacker has read, and its size if known.
    pub read: u64,
    pub total: Option<u64>,
    pub unpacked: Need,
}

/// Makes room for a release before it is staged. Refuses a release that cannot fit; if only the
/// estimate does not fit, prunes old releases, and if that is not enough, warns and lets staging
/// try.
pub(super) fn make(cx: &Context, app: &Locked, resolved: &Resolved) -> Result<()> {
    let snapshot = app.snapshot()?;
    let size = resolved.archive_size();
    let mut room = Space::at(app.dir())?;
    let sure = Need { bytes: size.unwrap_or(0), inodes: LEAST_INODES };
    let likely = Need::likely(&snapshot, size, room.block).unwrap_or(sure);
    if !likely.fits(room) || !sure.fits(room) {
        blocking(|| app.sweep())?;
        room = Space::at(app.dir())?;
    }
    let spare = retention::spare(&snapshot);
    // Prune nothing in vain: without all spare releases the release would have to fit.
    if !sure.fits(spared(&snapshot, &spare, room)) {
        return Err(refused(app, resolved, sure, room));
    }
    for label in spare {
        if likely.fits(room) && sure.fits(room) {
            return Ok(());
        }
        prune(cx, app, &[label])?;
        room = Space::at(app.dir())?;
    }
    if !sure.fits(room) {
        return Err(refused(app, resolved, sure, room));
    }
    if !likely.fits(room) {
        let (url, why) = (resolved.url(), likely.missing(room));
        cx.events.warn(format!("{url} may not fit, going by the release before: {why}"));
    }
    Ok(())
}

/// Prunes all spare releases after one did not fit. Returns whether there was any.
pub(super) fn clear(cx: &Context, app: &Locked, why: &Error) -> Result<bool> {
    let spare = retention::spare(&app.snapshot()?);
    if !spare.is_empty() {
        cx.events.warn(why.chain());
        prune(cx, app, &spare)?;
    }
    Ok(!spare.is_empty())
}

/// The error for an archive that did not fit on the disk.
pub(super) fn missed(reached: &Reached, room: Option<Space>, error: Error) -> Error {
    let block = room.map_or(0, |room| room.block);
    let what = match reached.rest() {
        None => "how much more is needed is not known".to_owned(),
        Some(rest) if room.is_some_and(|room| room.lacks_inodes()) => {
            format!("about {} inodes more are needed", rest.inodes.max(1))
        }
        Some(rest) => format!("about {} more are needed", HumanBytes(rest.on_disk(block))),
    };
    Error::unusable(what).because(error).help(HELP).with_reason(Reason::DiskFull)
}

/// The error for any other step of staging that fails because the disk is full.
pub(super) fn full(resolved: &Resolved, error: Error) -> Error {
    match error.reason() {
        Reason::DiskFull => error,
        _ => Error::unusable(format!("stage {}", resolved.url()))
            .because(error)
            .help(HELP)
            .with_reason(Reason::DiskFull),
    }
}

/// Refuses a release that cannot fit, whatever is pruned for it.
pub fn check(app: &App, resolved: &Resolved) -> Result<()> {
    let snapshot = app.snapshot()?;
    let sure = Need { bytes: resolved.archive_size().unwrap_or(0), inodes: LEAST_INODES };
    let dir = app.dir().ancestors().find(|dir| dir.is_dir()).unwrap_or(app.dir());
    let room = Space::at(dir)?;
    match sure.fits(spared(&snapshot, &retention::spare(&snapshot), room)) {
        true => Ok(()),
        false => Err(refused(app, resolved, sure, room)),
    }
}

fn prune(cx: &Context, app: &Locked, labels: &[Label]) -> Result<()> {
    let names: Vec<_> = labels.iter().map(Label::as_str).collect();
    cx.events.step(Step::Preflight, format!("prune {} to make room", names.join(", ")));
    labels.iter().try_for_each(|label| app.retire(label))?;
    blocking(|| app.sweep())
}

fn refused(app: &App, resolved: &Resolved, sure: Need, room: Space) -> Error {
    let (dir, missing) = (app.dir().display(), sure.missing(room));
    let why = match sure.bytes > room.bytes {
        true => format!("its archive alone has {}, {missing} at {dir}", HumanBytes(sure.bytes)),
        false => format!("any release needs {} inodes, {missing} at {dir}", sure.inodes),
    };
    Error::unusable(format!("stage {}", resolved.url()))
        .because(why)
        .help(HELP)
        .with_reason(Reason::DiskFull)
}

/// Returns the space that would be free without the releases in `spare`.
fn spared(snapshot: &Snapshot, spare: &[Label], room: Space) -> Space {
    let gone = snapshot.releases.iter().filter(|release| spare.contains(&release.label));
    gone.fold(room, |room, release| {
        let need = Need::for_release(release);
        let inodes = room.inodes.map(|inodes| inodes.saturating_add(need.inodes));
        let bytes = room.bytes.saturating_add(need.on_disk(room.block));
        Space { bytes, inodes, ..room }
    })
}

impl Need {
    fn for_release(release: &Manifest) -> Need {
        Need { bytes: release.bytes, inodes: release.files.saturating_add(LEAST_INODES) }
    }

    /// The size of the previous release, scaled by the archive sizes; `None` if the archives are
    /// too unlike to predict anything.
    fn likely(snapshot: &Snapshot, size: Option<u64>, block: u64) -> Option<Need> {
        let before = snapshot.current().or(snapshot.releases.last())?;
        let need = Need::for_release(before);
        let need = Need { bytes: need.on_disk(block), inodes: need.inodes };
        Some(match (size, before.identity.archive.size) {
            (Some(size), Some(before)) if size / ALIKE > before => return None,
            (Some(size), Some(before)) => need.times(size, before),
            _ => need,
        })
    }

    fn times(self, numerator: u64, denominator: u64) -> Need {
        let times = |count: u64| {
            let scaled = u128::from(count) * u128::from(numerator) / u128::from(denominator.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        Need { bytes: times(self.bytes), inodes: times(self.inodes) }
    }

    /// Bytes in whole blocks: the last block of a file is half empty on average.
    fn on_disk(self, block: u64) -> u64 {
        self.bytes.saturating_add(self.inodes.saturating_mul(block / 2)).max(block)
    }

    fn fits(self, room: Space) -> bool {
        self.bytes <= room.bytes && room.inodes.is_none_or(|inodes| self.inodes <= inodes)
    }

    fn missing(self, room: Space) -> String {
        let bytes = self.bytes.saturating_sub(room.bytes);
        let inodes = room.inodes.map_or(0, |inodes| self.inodes.saturating_sub(inodes));
        match (bytes, inodes) {
            (0, inodes) => format!("{inodes} inodes are missing"),
            (bytes, 0) => format!("{} are missing", HumanBytes(bytes)),
            (bytes, inodes) => format!("{} and {inodes} inodes are missing", HumanBytes(bytes)),
        }
    }
}

impl Reached {
    /// Estimates the space for the rest of the archive from the part that was read.
    fn rest(&self) -> Option<Need> {
        let rest = self.total?.checked_sub(self.read)?;
        (self.read > 0).then(|| self.unpacked.times(rest, self.read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    fn room(bytes: u64, inodes: Option<u64>) -> Space {
        Space { bytes, inodes, block: BLOCK, size: 1 << 40 }
    }

    fn missed_after(reached: Reached, room: Space) -> String {
        missed(&reached, Some(room), Error::unusable("no space left")).chain()
    }

    #[test]
    fn reports_the_missing_space_from_the_part_read() {
        let unpacked = Need { bytes: 30 << 20, inodes: 100 };
        let reached = Reached { read: 10, total: Some(40), unpacked };
        let blocks = 300 * BLOCK / 2;
        let bytes = HumanBytes((90 << 20) + blocks);
        let full = format!("about {bytes} more are needed: no space left");
        assert_eq!(missed_after(reached, room(0, Some(9999))), full);
        let inodes = "about 300 inodes more are needed: no space left";
        assert_eq!(missed_after(reached, room(1 << 30, Some(0))), inodes);
        for unknown in [Reached { total: None, ..reached }, Reached { read: 0, ..reached }] {
            let said = missed_after(unknown, room(0, None));
            assert!(said.starts_with("how much more is needed is not known"), "{said}");
        }
        let end = Reached { read: 40, ..reached };
        assert!(missed_after(end, room(0, None)).starts_with("about 4.00 KiB more"));
    }

    #[test]
    fn a_need_fits_in_bytes_and_in_inodes() {
        let need = Need { bytes: 1000, inodes: 10 };
        assert!(need.fits(room(1000, Some(10))) && need.fits(room(1000, None)));
        assert!(!need.fits(room(999, None)) && !need.fits(room(1000, Some(9))));
        assert_eq!(need.missing(room(1000, Some(9))), "1 inodes are missing");
        assert_eq!(need.missing(room(0, None)), "1000 B are missing");
        assert_eq!(need.missing(room(0, Some(0))), "1000 B and 10 inodes are missing");
    }

    #[test]
    fn arithmetic_saturates_with_huge_sizes() {
        let huge = Need { bytes: u64::MAX, inodes: u64::MAX };
        assert_eq!(huge.times(u64::MAX, 1), huge);
        assert_eq!(huge.times(1, 0), huge);
        assert_eq!(huge.on_disk(BLOCK), u64::MAX);
        assert!(!huge.fits(room(1 << 40, None)));
    }
}
