//! The end of what a failed program wrote, as an error quotes it.

use std::collections::VecDeque;

/// Lines that are quoted where nothing says that more belong together.
const USUAL: usize = 30;
/// Lines of a stack trace that are quoted at most.
const LONGEST: usize = 120;
/// Lines that are looked at for the beginning of a stack trace.
pub const KEPT: usize = 400;

/// What the stack traces of Python, Ruby, Java, Go and Node begin with.
const TRACES: [&str; 5] =
    ["Traceback (most recent call last)", "Exception in thread", "panic:", "throw ", "Caused by:"];

/// The last lines of an output of any length.
#[derive(Debug, Default)]
pub struct Quote {
    lines: VecDeque<String>,
    /// Lines that are no longer kept.
    dropped: usize,
}

impl Quote {
    pub fn push(&mut self, line: String) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &String> {
        self.lines.iter()
    }

    /// Returns the last lines: a stack trace whole, and first a line that says how many are
    /// left out.
    pub fn into_lines(self) -> Vec<String> {
        let all: Vec<String> = self.lines.into();
        let usual = all.len().saturating_sub(USUAL);
        let longest = all.len().saturating_sub(LONGEST);
        let is_begin = |line: &String| TRACES.iter().any(|begin| line.contains(begin));
        let trace = all[longest..].iter().position(is_begin).map(|at| longest + at);
        let from = trace.unwrap_or(usual).min(usual);
        let before = self.dropped + from;
        let mut quoted = Vec::with_capacity(all.len() - from + 1);
        if before > 0 {
            let more = if self.dropped > 0 { "at least " } else { "" };
            quoted.push(format!("({more}{before} lines before these)"));
        }
        quoted.extend(all.into_iter().skip(from));
        quoted
    }
}

impl FromIterator<String> for Quote {
    fn from_iter<I: IntoIterator<Item = String>>(lines: I) -> Self {
        let mut quote = Quote::default();
        lines.into_iter().for_each(|line| quote.push(line));
        quote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
        lines.into_iter().collect::<Quote>().into_lines()
    }

    fn numbered(count: usize) -> impl Iterator<Item = String> {
        (1..=count).map(|n| n.to_string())
    }

    #[test]
    fn a_short_output_is_quoted_whole() {
        assert_eq!(quoted(numbered(3)), ["1", "2", "3"]);
        assert!(quoted([]).is_empty());
    }

    #[test]
    fn the_end_of_a_long_output_is_quoted_and_the_rest_counted() {
        let lines = quoted(numbered(100));
        assert_eq!((lines[0].as_str(), lines.len()), ("(70 lines before these)", 31));
        assert_eq!(lines[30], "100");
        assert_eq!(quoted(numbered(1000))[0], "(at least 970 lines before these)");
    }

    #[test]
    fn a_stack_trace_is_quoted_whole() {
        let begin = "my-app.web.1: Traceback (most recent call last):".to_owned();
        let frames = (0..60).map(|n| format!("  File \"{n}.py\""));
        let trace = numbered(200).chain([begin.clone()]).chain(frames);
        let lines = quoted(trace.chain(["ModuleNotFoundError: No module named 'x'".into()]));
        assert_eq!((lines[0].as_str(), &lines[1]), ("(200 lines before these)", &begin));
        assert_eq!(lines.len(), 63);
    }
}
