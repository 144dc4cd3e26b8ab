//! Rollouts of groups of every size, at terminals of several sizes and in a log.

use super::board::Board;
use super::lines::Lines;
use super::terminal::Terminal;
use super::view::Look;
use crate::fleet::Host;
use crate::rollout::{Event, Happened, Phase, Verdict};
use indicatif::{ProgressDrawTarget, TermLike};
use std::io;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vt100::Parser;

/// A terminal in memory.
#[derive(Clone)]
struct Emulator(Arc<Mutex<Parser>>);

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Emulator")
    }
}

impl Emulator {
    fn new(height: u16, width: u16) -> Emulator {
        let size = |size| NonZeroU16::new(size).expect("a size");
        Emulator(Arc::new(Mutex::new(Parser::new(size(height), size(width), 20_000))))
    }

    fn screen(&self) -> String {
        let parser = self.0.lock().unwrap();
        let rows = parser.screen().rows(0, parser.screen().size().1.into());
        let rows: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }

    fn print(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().process(text.replace('\n', "\r\n").as_bytes());
        Ok(())
    }

    fn size(&self) -> (u16, u16) {
        let (height, width) = self.0.lock().unwrap().screen().size();
        (height.into(), width.into())
    }
}

impl TermLike for Emulator {
    fn width(&self) -> u16 {
        self.size().1
    }

    fn height(&self) -> u16 {
        self.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.print(&format!("\x1b[{n}A")) }
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.print(&format!("\x1b[{n}B")) }
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.print(&format!("\x1b[{n}C")) }
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { self.print(&format!("\x1b[{n}D")) }
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.print(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.print(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.print("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn terminal(height: u16, width: u16, colours: bool) -> (Emulator, Terminal) {
    let emulator = Emulator::new(height, width);
    let (height, width) = (height.into(), width.into());
    let look = Look { width, height, colours, unicode: true };
    let target = ProgressDrawTarget::term_like(Box::new(emulator.clone()));
    (emulator, Terminal::on(target, Arc::new(move || look)))
}

fn begun(instances: usize) -> Event {
    let (id, to, from) = ("5b1f03c2".to_owned(), "r8".to_owned(), Some("r7".to_owned()));
    Event::Begun { id, to, from, instances }
}

fn step(phase: Phase, text: &str) -> Event {
    Event::Step { phase, text: text.to_owned() }
}

fn host(n: usize, happened: Happened, text: &str) -> Event {
    let host = Host(format!("web{n}"));
    let log = match happened {
        Happened::Failed => vec!["no database".to_owned()],
        _ => Vec::new(),
    };
    Event::Host { host, happened, text: text.to_owned(), help: None, log }
}

fn ended(code: u8) -> Event {
    let message = "the group runs r7".to_owned();
    Event::Ended { id: "5b1f03c2".to_owned(), verdict: Verdict { code, message, help: None } }
}

const SIZES: [(u16, u16); 3] = [(24, 80), (40, 140), (24, 40)];

#[test]
fn a_small_group_has_a_line_for_each_instance() {
    for (height, width) in SIZES {
        let (emulator, terminal) = terminal(height, width, false);
        terminal.show(&begun(3));
        terminal.show(&step(Phase::Batches, "r8 on web2, web3"));
        terminal.show(&host(1, Happened::Running, "prove     r8"));
        terminal.show(&host(1, Happened::Done, "deployed r8"));
        terminal.show(&host(2, Happened::Running, "prove     web.1: it does not listen"));
        terminal.show(&host(3, Happened::Running, "stage     r8"));
        terminal.draw();
        let screen = emulator.screen();
        let line = |text: &str| {
            screen.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{screen}"))
        };
        assert!(line("✓ web1").ends_with("deployed r8"), "{screen}");
        assert!(line("batches").contains("r8 on web2"), "{screen}");
        assert!(line("1/3").contains("2 running, 1 done"), "{screen}");
        assert_eq!(line("1/3").contains('█'), width >= 80, "{screen}");
        assert!(line("  web2").contains("prove"), "{screen}");
        assert!(line("  web3").ends_with("stage     r8"), "{screen}");
    }
}

#[test]
fn twenty_five_are_counted_and_the_log_of_a_failure_comes_last() {
    for (height, width) in SIZES {
        let (emulator, terminal) = terminal(height, width, false);
        terminal.show(&begun(25));
        terminal.show(&step(Phase::Batches, "r8 on all"));
        for n in 1..=25 {
            terminal.show(&host(n, Happened::Running, "prove     r8"));
        }
        terminal.draw();
        let screen = emulator.screen();
        let shown = screen.lines().filter(|line| line.starts_with("  web")).count();
        assert_eq!(shown, 20, "{screen}");
        assert!(screen.contains("and 5 more: 5 prove"), "{screen}");
        assert!(screen.contains("25 running, 0 done"), "{screen}");
        for n in 1..=24 {
            terminal.show(&host(n, Happened::Done, "deployed r8"));
        }
        terminal.show(&host(25, Happened::Failed, "r8 did not become healthy"));
        terminal.show(&step(Phase::Back, "the group goes back to r7"));
        terminal.show(&host(1, Happened::Running, ""));
        terminal.draw();
        let screen = emulator.screen();
        assert!(!screen.contains("✓"), "many are not shown one by one\n{screen}");
        assert!(screen.contains("✗ web25"), "{screen}");
        assert!(screen.contains("0/1  1 running"), "{screen}");
        terminal.show(&ended(12));
        let screen = emulator.screen();
        assert!(screen.trim_end().ends_with("web25 | no database"), "{screen}");
        assert!(!screen.contains("running"), "the board is gone\n{screen}");
    }
}

#[test]
fn ten_thousand_fit_every_terminal() {
    for (height, width) in SIZES {
        let (emulator, terminal) = terminal(height, width, false);
        terminal.show(&begun(10_000));
        terminal.show(&step(Phase::Batches, "r8 on web1 and 9999 more"));
        for n in 1..=10_000 {
            let text = if n % 3 == 0 { "stage     r8" } else { "prove     r8" };
            terminal.show(&host(n, Happened::Running, text));
        }
        for n in 1..=2_500 {
            terminal.show(&host(n, Happened::Done, "deployed r8"));
        }
        terminal.draw();
        let screen = emulator.screen();
        assert!(screen.lines().count() <= height.into(), "{screen}");
        assert!(screen.contains("2500/10000"), "{screen}");
        let first = screen.lines().find(|line| line.starts_with("  web")).expect("an instance");
        assert!(first.starts_with("  web2501"), "{screen}");
        let rest = screen.lines().find(|line| line.starts_with("  and ")).expect("the rest");
        assert!(rest.starts_with("  and 7480 more: 4987 prove"), "{screen}");
        let begun = Instant::now();
        terminal.draw();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    for colours in [true, false] {
        let look = Look { width: 80, height: 24, colours, unicode: false };
        let mut board = Board::new(Instant::now());
        board.take(&begun(2), Instant::now());
        board.take(&host(1, Happened::Done, ""), Instant::now());
        let lines = look.board(&board, Instant::now()).join("\n");
        let failed = look.ended(&Host("web1".to_owned()), false, None, "no\x1b[2J");
        assert_eq!(lines.contains("\x1b[32m"), colours, "{lines:?}");
        assert_eq!(failed.contains('\x1b'), colours, "{failed:?}");
        assert!(lines.is_ascii() && failed.is_ascii(), "{lines:?} {failed:?}");
    }
}

fn log(instances: usize) -> String {
    let now = Instant::now();
    let mut out = Vec::new();
    let mut lines = Lines::new(&mut out, now);
    lines.show(&begun(instances), now);
    lines.show(&step(Phase::Batches, "r8 on web1"), now);
    for n in 1..=instances {
        // A thousand instances a second.
        let at = now + Duration::from_millis(n.try_into().unwrap());
        lines.show(&host(n, Happened::Running, "prove     r8"), at);
        let failed = n == instances;
        let happened = if failed { Happened::Failed } else { Happened::Done };
        lines.show(&host(n, happened, "exit"), at);
    }
    lines.count(false, now + Duration::from_secs(25));
    lines.show(&ended(12), now + Duration::from_secs(30));
    lines.count(false, now + Duration::from_secs(90));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_log_has_a_line_for_each_event_of_a_small_group() {
    assert_eq!(
        log(2),
        "rollout   5b1f03c2 to r8 from r7, 2 in the group\n\
         batches   r8 on web1\n\
         running   web1: prove     r8\n\
         done      web1: exit\n\
         running   web2: prove     r8\n\
         failed    web2: exit\n          web2 | no database\n"
    );
}

#[test]
fn a_log_has_counts_and_the_failures_of_a_large_group() {
    for instances in [25, 10_000] {
        let text = log(instances);
        let last = format!("progress  {} done, 1 failed\n", instances - 1);
        assert!(text.ends_with(&last), "{text}");
        assert!(text.contains(&format!("failed    web{instances}: exit\n")), "{text}");
        assert!(text.lines().count() <= 8, "{text}");
    }
}
