//! `deploy releases` as a table, and what its states mean for the next command.

use super::tables::{NONE, ago, fit, size, table};
use model::api::ReleaseStatus;
use model::release::state::State;
use model::text::for_terminal;
use std::fmt::Write;

const HEADER: [&str; 7] = ["app", "release", "state", "role", "staged", "size", "url"];

/// Renders the releases. With a width, no line is longer.
pub fn releases(releases: &[ReleaseStatus], width: Option<usize>) -> String {
    if releases.is_empty() {
        return NONE.to_owned();
    }
    let room = width.map(|width| width.saturating_sub(before_url(releases)).max(12));
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
            end_of(&release.url, room),
        ]
    });
    fit(&(table(&HEADER, rows, "") + &notes(releases)), width)
}

/// The width of the columns before the URL, by the widest app, release and state.
fn before_url(releases: &[ReleaseStatus]) -> usize {
    let widest = |cell: &dyn Fn(&ReleaseStatus) -> usize, header: &str| {
        releases.iter().map(cell).max().unwrap_or(0).max(header.len()) + 2
    };
    let [app, label, state, ..] = HEADER;
    widest(&|release| release.app.chars().count(), app)
        + widest(&|release| release.release.chars().count(), label)
        + widest(&|release| release.state.to_string().len(), state)
        + widest(
            &|release| if release.rollback { "rollback".len() } else { "current".len() },
            "role",
        )
        + widest(&|release| ago(release.staged_at).len(), "staged")
        + widest(&|release| size(release.bytes).len(), "size")
}

/// The end of a URL: only that differs between releases.
fn end_of(url: &str, room: Option<usize>) -> String {
    let length = url.chars().count();
    match room {
        Some(room) if length > room => {
            let end: String = url.chars().skip(length - (room - 1)).collect();
            format!("…{end}")
        }
        _ => url.to_owned(),
    }
}

fn notes(releases: &[ReleaseStatus]) -> String {
    let mut text = String::new();
    for release in releases {
        let ReleaseStatus { app, release: label, .. } = release;
        if let Some(why) = &release.why {
            let _ = writeln!(text, "{app} {label} is {why}");
        }
        if let Some(signer) = &release.signed_by {
            let _ =
                writeln!(text, "{app} {label} is signed by {}", for_terminal(&signer.principal));
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
    use model::release::signature::Signer;

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
            signed_by: (label == "r5").then(|| Signer::new("ada@x", "SHA256:k".into())),
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
my-app  r6       staged      -         3h ago  4.00 KiB  …x/my-app/production/r6
my-app  r5.2     good        current   3h ago  4.00 KiB  …my-app/production/r5.2
my-app  r5       good        rollback  3h ago  4.00 KiB  …x/my-app/production/r5
my-app  r4       taken back  -         3h ago  4.00 KiB  …x/my-app/production/r4

my-app r6 waits: its deploy need not fetch it
my-app r5.2 is the archive of r5, with another env
my-app r5 is signed by ada@x
`deploy rollback my-app` goes to r5
my-app r4 was taken back by a rollback, without fault
";
        assert_eq!(releases(&all, Some(80)), expected);
        assert!(releases(&all, None).contains("production/r5.2\n"));
        let narrow = releases(&all, Some(30));
        assert!(narrow.lines().all(|line| line.chars().count() <= 30), "{narrow}");
    }
}
