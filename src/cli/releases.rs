//! `deploy releases` as a table, and what its states mean for the next command.

use super::tables::{NONE, ago, fit, size, table};
use model::api::ReleaseStatus;
use model::release::state::State;
use std::fmt::Write;

/// Renders the releases. With a width, no line is longer.
pub fn releases(releases: &[ReleaseStatus], width: Option<usize>) -> String {
    if releases.is_empty() {
        return NONE.to_owned();
    }
    let rows = releases.iter().map(|release| {
        let role = match (release.current, release.rollback) {
            (true, _) => "current",
            (_, true) => "rollback",
            _ => "-",
        };
        vec![
            release.app.clone(),
            release.release.clone(),
            release.state.to_string(),
            role.to_owned(),
            ago(release.staged_at),
            size(release.bytes),
            release.url.clone(),
        ]
    });
    let header = ["app", "release", "state", "role", "staged", "size", "url"];
    fit(&(table(&header, rows, "") + &notes(releases)), width)
}

fn notes(releases: &[ReleaseStatus]) -> String {
    let mut text = String::new();
    for release in releases {
        let ReleaseStatus { app, release: label, .. } = release;
        if let Some(why) = &release.why {
            let _ = writeln!(text, "{app} {label} is {why}");
        }
        match release.state {
            State::Staged if !release.current => {
                let _ = writeln!(text, "{app} {label} waits: its deploy need not fetch it");
            }
            State::TakenBack if !release.current => {
                let _ = writeln!(text, "{app} {label} was taken back by a rollback, without fault");
            }
            _ => {}
        }
        if release.rollback {
            let _ = writeln!(text, "`deploy rollback {app}` goes to {label}");
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(label: &str, state: State) -> ReleaseStatus {
        ReleaseStatus {
            app: "my-app".into(),
            release: label.into(),
            url: format!("s3://releases/with/a/long/prefix/my-app/production/{label}"),
            state,
            current: label == "r5.2",
            rollback: label == "r5",
            staged_at: jiff::Timestamp::now() - jiff::SignedDuration::from_hours(3),
            files: 3,
            bytes: 4096,
            why: (label == "r5.2").then(|| "the archive of r5, with another env".into()),
        }
    }

    #[test]
    fn says_why_and_what_comes_next_within_the_width() {
        let all = [
            release("r6", State::Staged),
            release("r5.2", State::Good),
            release("r5", State::Good),
            release("r4", State::TakenBack),
        ];
        let expected = "\
APP     RELEASE  STATE       ROLE      STAGED  SIZE      URL
my-app  r6       staged      -         3h ago  4.00 KiB  s3://releases/with/a/l…
my-app  r5.2     good        current   3h ago  4.00 KiB  s3://releases/with/a/l…
my-app  r5       good        rollback  3h ago  4.00 KiB  s3://releases/with/a/l…
my-app  r4       taken back  -         3h ago  4.00 KiB  s3://releases/with/a/l…

my-app r6 waits: its deploy need not fetch it
my-app r5.2 is the archive of r5, with another env
`deploy rollback my-app` goes to r5
my-app r4 was taken back by a rollback, without fault
";
        assert_eq!(releases(&all, Some(80)), expected);
        assert!(releases(&all, None).contains("production/r5.2\n"));
        let narrow = releases(&all, Some(30));
        assert!(narrow.lines().all(|line| line.chars().count() <= 30), "{narrow}");
    }
}
