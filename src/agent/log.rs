//! The daemon's own log: to the journal, with fields, or to stderr if there is no journal.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Installs the log for the rest of the process. Libraries log warnings only: their lower
/// levels may contain headers and credentials.
pub fn start() {
    let levels = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("deploy_agent", LevelFilter::INFO)
        .with_target("deployd", LevelFilter::INFO);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(layer) => {
            let layer = layer.with_field_prefix(None).with_syslog_identifier("deployd".into());
            tracing_subscriber::registry().with(levels).with(layer).init();
        }
        None => {
            let layer =
                tracing_subscriber::fmt::layer().without_time().with_writer(std::io::stderr);
            tracing_subscriber::registry().with(levels).with(layer).init();
        }
    }
}
