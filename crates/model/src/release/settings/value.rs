//! Parsers of the values of settings.

use super::{Clients, Readiness, ReleasePhase, Sandbox, Statuses, StopSignal, Strategy};
use crate::release::name::ProcessType;
use crate::release::url::ReleaseUrl;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest duration: a longer one is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_PROCESSES: u16 = 100;
const MOST_RELEASES: usize = 1000;
/// The smallest limit of memory or disk: nothing works below it.
const SMALLEST_SIZE: u64 = 1 << 20;

/// Why a text is refused, and what would be valid.
pub(super) struct Invalid {
    pub what: String,
    pub help: String,
}

type Valid<T> = Result<T, Invalid>;

fn invalid<T>(what: impl Into<String>, help: impl Into<String>) -> Valid<T> {
    Err(Invalid { what: what.into(), help: help.into() })
}

pub(super) fn port(text: &str) -> Valid<NonZeroU16> {
    match whole(text).and_then(|number| NonZeroU16::new(u16::try_from(number).ok()?)) {
        Some(port) => Ok(port),
        None => invalid("not a port", "a port is a number from 1 to 65535"),
    }
}

/// Parses `80,443,5000-5999`.
pub(super) fn port_ranges(text: &str) -> Valid<Vec<(u16, u16)>> {
    const FORM: &str = "write ports and ranges of them, for instance 80,443,5000-5999";
    let number = |text: &str| whole(text).and_then(|number| u16::try_from(number).ok());
    let mut ranges = Vec::new();
    for item in items(text)? {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if 0 < first && first <= last => ranges.push((first, last)),
            _ => return invalid("not a range of ports", FORM),
        }
    }
    if ranges.is_empty() { invalid("no port at all", FORM) } else { Ok(ranges) }
}

/// Parses a number of at least one.
pub(super) fn count(text: &str) -> Valid<u32> {
    match whole(text).and_then(|number| u32::try_from(number).ok()) {
        Some(number) if number > 0 => Ok(number),
        _ => invalid("not a number of one or more", "write a whole number, for instance 100"),
    }
}

/// Parses `90s`; also `500ms`, `2m` and `1h`.
pub(super) fn duration(text: &str) -> Valid<Duration> {
    const FORMS: &str = "a duration is a whole number and ms, s, m or h, for instance 90s or 2m";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let Some(number) = whole(digits) else {
        return invalid("not a duration", FORMS);
    };
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "" => {
            return invalid(
                "a duration without a unit",
                format!("write {number}s if seconds are meant"),
            );
        }
        _ => return invalid("a unit of time that is not known", FORMS),
    };
    match number.checked_mul(milliseconds).map(Duration::from_millis) {
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => invalid("longer than a day", "the longest duration is 24h"),
    }
}

/// Parses a duration that is not zero, which means "forever" to systemd.
pub(super) fn timeout(text: &str) -> Valid<Duration> {
    match duration(text)? {
        Duration::ZERO => invalid("a timeout of zero", "write at least 1s"),
        timeout => Ok(timeout),
    }
}

/// Parses a size in bytes: `512M`, with systemd's suffixes K, M, G and T to the base of 1024.
pub(super) fn size(text: &str) -> Valid<u64> {
    const FORMS: &str = "a size is a whole number and K, M, G or T, for instance 512M";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let Some(number) = whole(digits) else {
        return invalid("not a size", FORMS);
    };
    let unit: u64 = match text.strip_prefix(digits).unwrap_or_default() {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        "" => {
            return invalid(
                "a size without a unit",
                format!("write {number}M if mebibytes are meant"),
            );
        }
        _ => return invalid("a unit of size that is not known", FORMS),
    };
    match number.checked_mul(unit) {
        Some(bytes) if bytes >= SMALLEST_SIZE => Ok(bytes),
        Some(_) => invalid("too small a size to work", "the smallest size is 1M"),
        None => invalid("a size beyond any machine", FORMS),
    }
}

pub(super) fn optional_size(text: &str) -> Valid<Option<u64>> {
    if text.is_empty() { Ok(None) } else { size(text).map(Some) }
}

pub(super) fn yes_or_no(text: &str) -> Valid<bool> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => invalid("neither yes nor no", "write yes or no"),
    }
}

pub(super) fn strategy(text: &str) -> Valid<Strategy> {
    match text {
        "restart" => Ok(Strategy::Restart),
        "handover" => Ok(Strategy::Handover),
        _ => invalid("not a strategy", "the strategies are handover and restart"),
    }
}

pub(super) fn sandbox(text: &str) -> Valid<Sandbox> {
    match text {
        "strict" => Ok(Sandbox::Strict),
        "full" => Ok(Sandbox::Full),
        "off" => Ok(Sandbox::Off),
        _ => invalid("not a sandbox", "the sandboxes are strict, full and off"),
    }
}

/// Parses the request target of the probe; empty means none.
pub(super) fn health_path(text: &str) -> Valid<Option<String>> {
    match text {
        "" => Ok(None),
        _ if !text.starts_with('/') => invalid("not a path", format!("write /{}", shortened(text))),
        _ if text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') => Ok(Some(text.to_owned())),
        _ => invalid("a character that a request path cannot hold", "percent-encode it"),
    }
}

pub(super) fn clients(text: &str) -> Valid<Clients> {
    match text {
        "anywhere" => Ok(Clients::Anywhere),
        "local" => Ok(Clients::Local),
        _ => invalid(
            "not a place where clients are",
            "write anywhere, or local where a proxy on this instance is the only client",
        ),
    }
}

pub(super) fn readiness(text: &str) -> Valid<Readiness> {
    match text {
        "port" => Ok(Readiness::Port),
        "notify" => Ok(Readiness::Notify),
        _ => invalid(
            "not a sign of readiness",
            "write port, or notify where every process sends READY=1 as sd_notify(3) has it",
        ),
    }
}

pub(super) fn release_phase(text: &str) -> Valid<ReleasePhase> {
    match text {
        "manual" => Ok(ReleasePhase::Manual),
        "always" => Ok(ReleasePhase::Always),
        _ => invalid(
            "neither manual nor always",
            "write manual, and deploy with --run-release where it shall run, or always",
        ),
    }
}

/// Parses a signal's name, with or without `SIG`, in either case.
pub(super) fn stop_signal(text: &str) -> Valid<StopSignal> {
    let upper = text.to_ascii_uppercase();
    let name = format!("SIG{}", upper.strip_prefix("SIG").unwrap_or(&upper));
    match StopSignal::ALL.into_iter().find(|signal| signal.name() == name) {
        Some(signal) => Ok(signal),
        None => invalid(
            "not a signal that ends a server",
            "the signals are TERM, HUP, INT, QUIT, USR1, USR2 and WINCH",
        ),
    }
}

/// Parses the `Host` header of the probe: a name or an address, with or without a port.
pub(super) fn health_host(text: &str) -> Valid<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    match text.bytes().all(plain) && !text.is_empty() && text.len() <= 255 {
        true => Ok(text.to_owned()),
        false => invalid("not a host", "write a name, for instance www.example.com"),
    }
}

/// Parses `200-399`, or several separated by commas: `200,204,401`.
pub(super) fn statuses(text: &str) -> Valid<Statuses> {
    const FORM: &str = "write statuses from 100 to 599, for instance 200-399 or 200,401";
    let status = |text: &str| {
        let number = whole(text).and_then(|number| u16::try_from(number).ok());
        number.filter(|number| (100..600).contains(number))
    };
    let mut ranges = Vec::new();
    for item in items(text)? {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
            _ => return invalid("not a status of HTTP", FORM),
        }
    }
    if ranges.is_empty() {
        return invalid("no status at all", FORM);
    }
    Ok(Statuses(ranges))
}

/// Parses `web=2,worker=4`; zero means that none runs.
pub(super) fn concurrency(text: &str) -> Valid<BTreeMap<ProcessType, u16>> {
    const FORM: &str = "write TYPE=NUMBER, separated by commas, for instance web=2,worker=4";
    let mut concurrency = BTreeMap::new();
    for item in items(text)? {
        let (process_type, number) = item.split_once('=').unwrap_or((item, ""));
        let (Ok(process_type), Some(number)) = (process_type.parse::<ProcessType>(), whole(number))
        else {
            return invalid("not a number of processes for a type", FORM);
        };
        let number = match u16::try_from(number) {
            Ok(number) if number <= MOST_PROCESSES => number,
            _ => return invalid(format!("more than {MOST_PROCESSES} processes of a type"), FORM),
        };
        if concurrency.insert(process_type, number).is_some() {
            return invalid("a type named twice", FORM);
        }
    }
    Ok(concurrency)
}

pub(super) fn process_types(text: &str) -> Valid<Vec<ProcessType>> {
    let types: Result<Vec<ProcessType>, _> = items(text)?.into_iter().map(str::parse).collect();
    types.or_else(|_| invalid("not a list of process types", "write for instance clock,scheduler"))
}

/// Parses URLs that end with `current`, each of another app; none in an empty text.
pub(super) fn pointers(text: &str) -> Valid<Vec<ReleaseUrl>> {
    const FORM: &str =
        "write s3://BUCKET/[PREFIX/]APP/ENVIRONMENT/current, and between several a comma";
    let mut apps = BTreeSet::new();
    let mut urls = Vec::new();
    for item in items(text)? {
        let url: ReleaseUrl = match item.parse() {
            Ok(url) => url,
            Err(error) => return invalid(crate::error::Error::to_string(&error), FORM),
        };
        if !url.is_current() {
            return invalid("a URL that does not end with `current`, so it never changes", FORM);
        }
        if !apps.insert(url.app().clone()) {
            return invalid("the same app twice", "an app has one environment on an instance");
        }
        urls.push(url);
    }
    Ok(urls)
}

/// Parses the interval of watch mode: shorter than a second makes no sense for many instances.
pub(super) fn interval(text: &str) -> Valid<Duration> {
    match duration(text)? {
        interval if interval >= Duration::from_secs(1) => Ok(interval),
        _ => invalid("shorter than a second", "write for instance 30s"),
    }
}

/// Parses paths that stay below the directory they are joined to, and are not that directory.
pub(super) fn relative_paths(text: &str) -> Valid<Vec<String>> {
    items(text)?.into_iter().map(relative_path).collect()
}

fn relative_path(item: &str) -> Valid<String> {
    match plain_parts(item.strip_suffix('/').unwrap_or(item)) {
        Some(parts) => Ok(parts),
        None => invalid(
            "not a path below the release",
            "write directories of the release, for instance tmp,log, of A-Z a-z 0-9 . _ @ + - /",
        ),
    }
}

/// Parses an absolute path that is not the root.
pub(super) fn state_dir(text: &str) -> Valid<PathBuf> {
    let below_root = text.strip_prefix('/').and_then(plain_parts);
    match below_root {
        Some(parts) => Ok(Path::new("/").join(parts)),
        None => invalid(
            "not an absolute path",
            "write for instance /var/lib/deploy, of A-Z a-z 0-9 . _ @ + - /",
        ),
    }
}

/// Returns a path that only leads downwards and needs no quotes in a unit file.
fn plain_parts(path: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
    let fine = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
    path.split('/').all(fine).then(|| path.to_owned())
}

/// Parses a user name that useradd(8) accepts; empty means none. Apps never run as root.
pub(super) fn user(text: &str) -> Valid<Option<String>> {
    const FORM: &str = "leave it out, or write the name of a system user, for instance deploy-app";
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
    match text {
        "" => Ok(None),
        "root" => invalid("apps never run as root", FORM),
        _ if begins && text.len() <= 32 && text.bytes().all(inner) => Ok(Some(text.to_owned())),
        _ => invalid("not a user name", FORM),
    }
}

pub(super) fn keep_releases(text: &str) -> Valid<usize> {
    match whole(text).and_then(|number| usize::try_from(number).ok()) {
        Some(number @ 1..=MOST_RELEASES) => Ok(number),
        _ => {
            invalid("not a number of releases", format!("write a number from 1 to {MOST_RELEASES}"))
        }
    }
}

pub(super) fn max_files(text: &str) -> Valid<u64> {
    match whole(text) {
        Some(number) if number > 0 => Ok(number),
        _ => invalid("not a number of files", "write a whole number, for instance 500000"),
    }
}

/// Parses digits only: `parse` alone would also accept a sign.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn items(text: &str) -> Valid<Vec<&str>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let items: Vec<&str> = text.split(',').map(str::trim).collect();
    if items.contains(&"") {
        return invalid("nothing between two commas", "leave one comma out");
    }
    Ok(items)
}

fn shortened(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(40).collect()
}
