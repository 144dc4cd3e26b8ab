//! `ship ps` as text, and at a terminal.

use super::*;
use std::num::NonZeroU16;
use vt100::Parser;

fn instance(name: &str, zone: Option<&str>, standing: Standing) -> Instance {
    Instance { host: Host(name.to_owned()), zone: zone.map(str::to_owned), standing }
}

fn seen(release: &str, healthy: bool) -> Result<Seen, String> {
    let fault = (!healthy).then(|| "web.1 does not answer".to_owned());
    let (release, agent) = (Some(release.to_owned()), Some("0.1.0".to_owned()));
    let since = Some(Timestamp::from_second(1_000).unwrap());
    Ok(Seen { release, healthy, fault, since, agent, ..Seen::default() })
}

fn group(zone: Option<&str>) -> Vec<Row> {
    let names = ["web1", "web2", "web3", "web4"];
    let mut instances: Vec<_> =
        names.map(|name| instance(name, zone, Standing::InService)).into_iter().collect();
    if zone.is_some() {
        instances.push(instance("web5", zone, Standing::Starting));
    }
    let states = [seen("r8", true), seen("r7", true), seen("r8", false), Err("no route".into())];
    let states = names.map(|name| Host(name.to_owned())).into_iter().zip(states).collect();
    let target = Target { state: "draining".to_owned(), reason: None };
    let targets = zone.map(|_| (Host("web1".to_owned()), target));
    rows(instances, states, targets.into_iter().collect(), Some("r8"))
}

fn lines(rows: &[Row], width: Option<usize>) -> Vec<String> {
    let text = table(rows, Timestamp::from_second(1_300).unwrap(), width);
    console::strip_ansi_codes(&text).lines().map(str::to_owned).collect()
}

#[test]
fn drift_and_faults_are_marked() {
    assert_eq!(
        lines(&group(None), None),
        [
            "   INSTANCE  RELEASE     SINCE  AGENT  STATE",
            "   web1      r8          5m     0.1.0  healthy",
            "!  web2      r7 (drift)  5m     0.1.0  healthy",
            "!  web3      r8          5m     0.1.0  not healthy: web.1 does not answer",
            "!  web4      -           -      -      unreachable: no route",
        ]
    );
}

#[test]
fn a_group_of_auto_scaling_has_zones_states_and_targets() {
    let lines = lines(&group(Some("eu-central-1a")), Some(80));
    assert!(lines[0].starts_with("   INSTANCE  ZONE           GROUP       TARGET    RELEASE"));
    assert!(lines[1].contains("eu-central-1a  in service  draining  r8 "), "{lines:?}");
    assert!(lines[5].contains("web5      eu-central-1a  starting"), "{lines:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
}

#[test]
fn a_watch_replaces_its_frame_and_leaves_out_what_has_no_room() {
    for (height, width) in [(24, 80), (40, 140), (5, 40)] {
        let size = |size: usize| NonZeroU16::new(u16::try_from(size).unwrap()).unwrap();
        let mut parser = Parser::new(size(height), size(width), 0);
        let mut screen = Screen::new();
        let whole = table(&group(None), Timestamp::from_second(1_300).unwrap(), Some(width));
        let short: String = whole.lines().take(2).map(|line| format!("{line}\n")).collect();
        for (head, table) in [("first", &whole), ("second", &short), ("third", &whole)] {
            let drawn = screen.draw(head, table, Some(height), Some(width));
            parser.process(drawn.replace('\n', "\r\n").as_bytes());
        }
        let shown = parser.screen().contents();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "third", "{shown}");
        assert!(!shown.contains("first") && !shown.contains("second"), "{shown}");
        let last = if height == 5 { "and 3 more" } else { "!  web4" };
        assert!(lines.last().unwrap().starts_with(last), "{shown}");
    }
}
