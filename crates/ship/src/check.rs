//! The agent's own checks of a release, before anything of it is in the store.

use crate::place::ENV;
use crate::report::Report;
use model::error::{Error, Result};
use model::reason::Reason;
use model::release::env::Env;
use model::release::name::ProcessType;
use model::release::settings::ReleaseSettings;
use model::release::{ParseError, formation};

/// Returns the error of a file of the release, with its line and the parser's advice.
pub fn refused(file: &str, reason: Reason, why: ParseError) -> Error {
    let help = why.help.clone();
    let error = Error::unusable(file).with_reason(reason).because(why);
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

/// Parses an `env`, and checks the settings in it; `name` says whose it is.
pub fn env(bytes: &[u8], name: &str) -> Result<Env> {
    let env = Env::parse(bytes).map_err(|why| refused(name, Reason::InvalidEnv, why))?;
    match ReleaseSettings::merge(&Env::default(), &env) {
        Ok(_) => Ok(env),
        // The error begins with this name itself.
        Err(why) if name == ENV => Err(why.with_reason(Reason::InvalidEnv)),
        Err(why) => Err(Error::unusable(name).with_reason(Reason::InvalidEnv).because(why)),
    }
}

/// Checks that an `env` and the process types of a release fit together.
pub fn formation(env: &Env, types: &[ProcessType], report: &Report) -> Result<()> {
    let settings = ReleaseSettings::merge(&Env::default(), env)?;
    formation::check(types, &settings)?;
    formation::warnings(env, types, &settings).iter().for_each(|text| report.warn(text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_line_and_no_value() {
        let error = env(b"A=1\nB=se cret\n", "env").unwrap_err();
        assert_eq!(error.chain(), "env: line 2, column 6: not an assignment");
        assert!(error.advice().unwrap_or_default().contains("quote a value"));
        let error = env(b"DEPLOY_SETTLE=soon\n", "env of s3://b/env").unwrap_err();
        assert!(error.chain().starts_with("env of s3://b/env: env: DEPLOY_SETTLE"), "{error:?}");
        assert_eq!(error.exit().code(), 10);
        let error = env(b"DEPLOY_SETLE=1s\n", "env").unwrap_err();
        assert_eq!(error.advice(), Some("did you mean DEPLOY_SETTLE?"));
    }
}
