//! Checks a Procfile: the place of a refusal, the parsed commands, and how systemd reads them.

use super::{said, units};
use model::release::env::Env;
use model::release::procfile::Procfile;
use model::release::settings::{AgentSettings, ReleaseSettings};

pub fn procfile(data: &[u8]) -> bool {
    let procfile = match Procfile::parse(data) {
        Ok(procfile) => procfile,
        Err(error) => {
            said::check_place(&error, data);
            return false;
        }
    };
    reads_back_as_written(&procfile);
    line_ends_mean_nothing(data, &procfile);

    let none = Env::default();
    let agent = AgentSettings::from_env(&none).expect("the built-in settings");
    let settings = ReleaseSettings::merge(&none, &none).expect("the built-in settings");
    units::check(&procfile, &agent, &settings);
    true
}

fn reads_back_as_written(procfile: &Procfile) {
    let line = |(kind, command): (&str, &str)| format!("{kind}:{command}");
    let services = procfile.services().map(|(kind, command)| (kind.as_str(), command));
    let build = procfile.build().map(|command| ("build", command));
    let release = procfile.release().map(|command| ("release", command));
    let lines: Vec<_> = services.chain(build).chain(release).map(line).collect();
    let read = Procfile::parse(lines.join("\n").as_bytes()).expect("what was accepted before");
    assert!(read.services().eq(procfile.services()), "{read:?} is not {procfile:?}");
    assert_eq!((read.build(), read.release()), (procfile.build(), procfile.release()));
}

fn line_ends_mean_nothing(data: &[u8], procfile: &Procfile) {
    let text = String::from_utf8_lossy(data);
    let other = match text.contains('\r') {
        true => text.replace("\r\n", "\n"),
        false => text.replace('\n', "\r\n"),
    };
    // A file that this made too long is rightly refused.
    if other.len() <= 64 * 1024 {
        assert_eq!(Procfile::parse(other.as_bytes()).as_ref(), Ok(procfile), "{other:?}");
    }
}
