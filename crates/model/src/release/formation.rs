//! Whether a release's settings and the process types of its Procfile fit together.

use super::env::Env;
use super::name::ProcessType;
use super::settings::{ReleaseSettings, SET_BY_AGENT, Strategy};
use crate::error::{Error, Result};

/// Refuses a formation with a type that the Procfile lacks: it would silently run nothing.
pub fn check(types: &[ProcessType], settings: &ReleaseSettings) -> Result<()> {
    let alone = settings.singleton.iter().any(|kind| kind.as_str() == "web");
    if alone && settings.strategy == Strategy::Handover {
        let error = Error::unusable("DEPLOY_SINGLETON names web");
        let why = "in a handover the old and the new one run at once";
        return Err(error.because(why).help("set DEPLOY_STRATEGY=restart"));
    }
    let mut names = settings.concurrency.keys().chain(&settings.singleton);
    if let Some(name) = names.find(|name| !types.contains(name)) {
        let types: Vec<_> = types.iter().map(ProcessType::as_str).collect();
        let what = format!("DEPLOY_CONCURRENCY or DEPLOY_SINGLETON names {name}");
        let why = format!("the Procfile has {}", types.join(", "));
        return Err(Error::unusable(what).because(why).help("name one of those"));
    }
    Ok(())
}

/// Returns what is valid but may not do what the author expects.
pub fn warnings(env: &Env, types: &[ProcessType], settings: &ReleaseSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    // PORT is a setting, so it has an effect.
    let by_agent = |name: &&&str| **name != "PORT" && env.get(name).is_some();
    for name in SET_BY_AGENT.iter().filter(by_agent) {
        warnings.push(format!(
            "env sets {name}, which the agent gives each process itself: the value in env is not \
             passed on"
        ));
    }
    let by_shell: Vec<&str> = env.ignored().collect();
    if !by_shell.is_empty() {
        let names = by_shell.join(", ");
        warnings.push(format!("env sets {names}, which every shell sets itself: not passed on"));
    }
    let mut types = types.iter().map(ProcessType::as_str);
    if !types.clone().any(|kind| kind == "web") {
        let port = settings.port;
        warnings.push(match types.find(|kind| kind.eq_ignore_ascii_case("web")) {
            Some(kind) => format!(
                "the Procfile has {kind} and no web: only web, in small letters, gets $PORT and \
                 the clients of port {port}"
            ),
            None => {
                "the Procfile has no web: no port is opened, and healthy means that all stay up"
                    .to_owned()
            }
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::procfile::Procfile;

    fn of(env: &str, procfile: &str) -> (Result<()>, Vec<String>) {
        let env = Env::parse(env.as_bytes()).unwrap();
        let settings = ReleaseSettings::merge(&Env::default(), &env).unwrap();
        let types = Procfile::parse(procfile.as_bytes()).unwrap().types();
        (check(&types, &settings), warnings(&env, &types, &settings))
    }

    #[test]
    fn refuses_a_type_that_the_procfile_lacks() {
        let error = of("DEPLOY_CONCURRENCY=wrker=2", "web: x\nworker: y").0.unwrap_err();
        assert_eq!(
            error.chain(),
            "DEPLOY_CONCURRENCY or DEPLOY_SINGLETON names wrker: the Procfile has web, worker"
        );
        assert!(of("DEPLOY_SINGLETON=web", "web: x").0.is_err());
        assert!(of("DEPLOY_SINGLETON=web DEPLOY_STRATEGY=restart", "web: x").0.is_ok());
    }

    #[test]
    fn a_usual_release_has_no_warnings() {
        let none: [&str; 0] = [];
        assert_eq!(of("PORT=80 A=1", "web: x\nworker: y\nbuild: z\n").1, none);
    }

    #[test]
    fn names_variables_that_are_not_passed_on() {
        let said = of("PUBLIC_PORT=443 PS=mine\nPWD=/x\ndeclare -x SHLVL=1", "web: x").1;
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("PUBLIC_PORT") && !said[0].contains("443"), "{said:?}");
        assert!(said[1].contains("PS"), "{said:?}");
        assert!(said[2].contains("PWD, SHLVL"), "{said:?}");
    }

    #[test]
    fn names_a_procfile_without_web() {
        let said = of("PORT=80", "worker: x").1;
        let expected =
            "the Procfile has no web: no port is opened, and healthy means that all stay up";
        assert_eq!(said, [expected]);
        let said = of("", "Web: x").1;
        assert!(said[0].contains("has Web and no web"), "{said:?}");
    }
}
