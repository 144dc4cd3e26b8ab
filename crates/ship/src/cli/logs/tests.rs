//! The order of lines, with a clock that stands still.

use super::*;
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn line(host: &str, second: i64) -> Line {
    Line {
        host: host.to_owned(),
        at: Some(Timestamp::from_second(second).unwrap()),
        app: "shop".to_owned(),
        process: "web.1".to_owned(),
        release: Some("r8".to_owned()),
        candidate: false,
        pid: Some(7),
        text: format!("\u{1b}[32mline {second}\u{7}"),
    }
}

fn streams(count: usize) -> (Vec<Sender<Line>>, Vec<Receiver<Line>>) {
    (0..count).map(|_| channel(2)).unzip()
}

#[tokio::test(start_paused = true)]
async fn logs_with_an_end_are_in_the_order_of_their_times() {
    let (senders, receivers) = streams(3);
    let mut merge = Merge::new(receivers, false);
    let writers = senders.into_iter().enumerate().map(|(n, sender)| async move {
        for k in 0..100 {
            // The later an instance is in the list, the slower it answers.
            sleep(Duration::from_millis(n as u64 * 100)).await;
            sender.send(line("web", k * 3 + n as i64)).await.unwrap();
        }
    });
    let reader = async {
        let mut seconds = Vec::new();
        while let Some((_, line)) = merge.next().await {
            seconds.push(line.at.unwrap().as_second());
        }
        seconds
    };
    let (_, seconds) = tokio::join!(futures_util::future::join_all(writers), reader);
    assert_eq!(seconds, (0..300).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_followed_does_not_wait_for_silent_instances() {
    let (senders, receivers) = streams(2);
    let mut merge = Merge::new(receivers, true);
    let begun = Instant::now();
    senders[0].send(line("web1", 2)).await.unwrap();
    let late = async {
        sleep(Duration::from_secs(1)).await;
        senders[1].send(line("web2", 1)).await.unwrap();
    };
    let (first, ()) = tokio::join!(merge.next(), late);
    assert_eq!(first.unwrap().1.host, "web2", "the first lines are merged");
    assert_eq!(merge.next().await.unwrap().1.host, "web1");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let begun = Instant::now();
    senders[0].send(line("web1", 3)).await.unwrap();
    assert_eq!(merge.next().await.unwrap().0, 0);
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    drop(senders);
    assert!(merge.next().await.is_none());
}

#[test]
fn no_byte_of_a_line_steers_the_terminal() {
    assert_eq!(line("web1", 1).render(), "01-01 00:00:01Z web.1 r8: line 1\u{fffd}");
}

#[test]
fn options_are_passed_on() {
    let args = LogsArgs {
        words: Vec::new(),
        follow: true,
        since: Some("-x; rm".to_owned()),
        lines: Some(5),
        release: None,
        hosts: Vec::new(),
    };
    let words = words("shop", Some("web".to_owned()), &args);
    assert_eq!(
        words,
        ["logs", "--json", "--follow", "--since=-x; rm", "--lines=5", "--", "shop", "web"]
    );
}
