//! The text format of Prometheus, version 0.0.4: families of samples with HELP and TYPE.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::Write;

/// The media type of the format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The characters of a label value that are shown; the rest is cut.
const LONGEST: usize = 200;

/// The kind of a family's values.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Gauge,
    /// It only goes up, except that it begins anew with its process.
    Counter,
}

/// A name and its value.
pub type Label<'a> = (&'a str, &'a str);

/// A text that families are added to.
pub struct Exposition<'a> {
    /// The label of every sample.
    common: Label<'a>,
    text: String,
}

/// A family that samples are added to. It has no lines as long as it has no sample.
pub struct Family<'e, 'a> {
    exposition: &'e mut Exposition<'a>,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    is_begun: bool,
}

impl<'a> Exposition<'a> {
    /// `common` is a label that every sample gets.
    pub fn new(common: Label<'a>) -> Exposition<'a> {
        Exposition { common, text: String::new() }
    }

    /// Begins a family whose values go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_, 'a> {
        self.family(name, Kind::Gauge, help)
    }

    /// Begins a family of counters.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_, 'a> {
        self.family(name, Kind::Counter, help)
    }

    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_, 'a> {
        Family { exposition: self, name, kind, help, is_begun: false }
    }

    /// Returns the whole text.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_, '_> {
    /// Adds a sample. No two samples of a family may have the same labels.
    pub fn sample(&mut self, labels: &[Label<'_>], value: f64) {
        let Exposition { common, text } = &mut *self.exposition;
        if !self.is_begun {
            self.is_begun = true;
            let kind = match self.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            let (name, help) = (self.name, escaped_help(self.help));
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        let one = |(name, value): &Label<'_>| format!("{name}=\"{}\"", escaped_value(value));
        let labels: Vec<String> = [*common].iter().chain(labels).map(one).collect();
        let _ = writeln!(text, "{}{{{}}} {}", self.name, labels.join(","), number(value));
    }

    /// Adds a sample, if there is a value.
    pub fn known(&mut self, labels: &[Label<'_>], value: Option<f64>) {
        if let Some(value) = value {
            self.sample(labels, value);
        }
    }
}

/// A help text ends with its line, and a backslash begins an escape.
fn escaped_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

/// Escapes what would end the value or the line. The format allows other control characters,
/// but a terminal that shows the text would obey them.
fn escaped_value(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars().take(LONGEST) {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_help_type_and_samples() {
        let mut text = Exposition::new(("host", "i-1"));
        let mut up = text.gauge("up", "Whether it runs.");
        up.sample(&[("app", "a")], 1.0);
        up.sample(&[], 0.0);
        text.counter("restarts_total", "A back\\slash and\na line.").known(&[], Some(2.0));
        let expected = "# HELP up Whether it runs.\n# TYPE up gauge\n\
            up{host=\"i-1\",app=\"a\"} 1\nup{host=\"i-1\"} 0\n\
            # HELP restarts_total A back\\\\slash and\\na line.\n# TYPE restarts_total counter\n\
            restarts_total{host=\"i-1\"} 2\n";
        assert_eq!(text.into_text(), expected);
    }

    #[test]
    fn a_family_without_samples_has_no_lines() {
        let mut text = Exposition::new(("host", "i-1"));
        text.gauge("up", "Whether it runs.").known(&[], None);
        assert_eq!(text.into_text(), "");
    }

    #[test]
    fn no_label_value_ends_its_line_or_speaks_to_a_terminal() {
        let rows = [
            ("plain", "plain"),
            ("", ""),
            ("é☃", "é☃"),
            ("a\"b", "a\\\"b"),
            ("a\\b", "a\\\\b"),
            ("a\nb", "a\\nb"),
            ("\\n", "\\\\n"),
            ("a\r\t\u{1b}[2J\0", "a\u{fffd}\u{fffd}\u{fffd}[2J\u{fffd}"),
            ("}", "}"),
        ];
        for (value, expected) in rows {
            assert_eq!(escaped_value(value), expected, "{value:?}");
        }
        assert_eq!(escaped_value(&"é".repeat(1000)).chars().count(), LONGEST);
    }

    #[test]
    fn numbers_are_those_of_the_format() {
        let rows = [
            (0.0, "0"),
            (1.5, "1.5"),
            (-2.0, "-2"),
            (1_764_153_000.25, "1764153000.25"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, expected) in rows {
            assert_eq!(number(value), expected);
        }
    }
}
