//! The summary of a run for a reader of the README.

use crate::serving;
use crate::table::{AWS, PEER, Rows, aligned};

/// Compares times that include a sync to the disk.
const SYNCED: bool = true;

/// Returns a Markdown table; empty if the run had none of its rows.
pub fn table(rows: &Rows) -> String {
    let lines: Vec<[String; 4]> = staging(rows).into_iter().chain(serving(rows)).collect();
    match lines.is_empty() {
        true => String::new(),
        false => {
            let head = ["", "`aws s3 cp - | tar xz`", "ours, gzip", "ours, zstd"];
            format!("\n### In short\n\n{}", aligned(head, lines))
        }
    }
}

fn staging(rows: &Rows) -> Vec<[String; 4]> {
    let line = |group: &&str| {
        let median = |what: &str| rows.median(group, what, SYNCED);
        let peer = AWS.iter().filter_map(|what| median(what)).min_by(f64::total_cmp)?;
        let ours = |kind: &str| match median(&format!("S3, {kind}: deploy stage")) {
            Some(ours) => format!("{ours:.2} s, {:.1} times as fast", peer / ours),
            None => "-".to_owned(),
        };
        let what = format!("stage {}", group.trim_start_matches("slow: "));
        Some([what, format!("{peer:.2} s"), ours("gzip"), ours("zstd")])
    };
    rows.groups().iter().filter_map(line).collect()
}

fn serving(rows: &Rows) -> Vec<[String; 4]> {
    let line = |(group, ours): &(&str, &str)| {
        let median = |what: &str| rows.median(group, what, SYNCED);
        let (peer, ours) = median(PEER).zip(median(ours))?;
        let milliseconds = |seconds: f64| format!("{:.0} ms", seconds * 1000.0);
        let what = group.trim_start_matches("serving: ").to_owned();
        Some([what, format!("{} (script)", milliseconds(peer)), milliseconds(ours), "-".to_owned()])
    };
    serving::COMPARED.iter().filter_map(line).collect()
}
