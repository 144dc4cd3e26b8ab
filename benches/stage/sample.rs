//! A measurement, and the statistics of several.

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Seconds until the command ended, and until a sync after it ended.
    pub wall: f64,
    pub synced: f64,
    /// CPU seconds of the command's children and the daemon.
    pub cpu: f64,
    /// Peak memory of the daemon in MiB.
    pub peak: f64,
    pub failed: bool,
}

impl Sample {
    /// Parses the output of the measuring script.
    pub fn parse(text: &str, complaint: &str) -> Sample {
        let mut lines = text.lines();
        let mut numbers = || -> Vec<f64> {
            let words = lines.next().unwrap_or_default().split_whitespace();
            words.filter_map(seconds).collect()
        };
        let clock = numbers();
        let (_shell, children) = (numbers(), numbers());
        let (daemon, peak) = (numbers(), numbers());
        let [code, begin, end, synced] = clock[..] else {
            panic!("no measurement: {text}{complaint}")
        };
        if code != 0.0 {
            eprintln!("  failed ({code}): {}", complaint.trim().replace('\n', " | "));
        }
        let daemon_seconds = daemon.first().zip(daemon.get(1)).map_or(0.0, |(used, hz)| used / hz);
        Sample {
            wall: end - begin,
            synced: synced - begin,
            cpu: children.iter().sum::<f64>() + daemon_seconds,
            peak: peak.first().map_or(0.0, |kib| kib / 1024.0),
            failed: code != 0.0,
        }
    }
}

/// Parses `1.5`, or `0m1.5s` as bash's `times` prints it.
fn seconds(word: &str) -> Option<f64> {
    match word.strip_suffix('s').and_then(|word| word.split_once('m')) {
        Some((minutes, seconds)) => {
            Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
        }
        None => word.parse().ok(),
    }
}

/// Median, minimum and maximum.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Returns none without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread { median, least, most })
    }

    pub fn json(self) -> Value {
        let round = |value: f64| (value * 1e5).round() / 1e5;
        json!([round(self.median), round(self.least), round(self.most)])
    }
}
