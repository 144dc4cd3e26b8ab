//! Warnings about a release that is valid but may not do what its author expects: reported once,
//! while it is staged.

use crate::events::Events;
use model::release::env::Env;
use model::release::procfile::Procfile;
use model::release::settings::{ReleaseSettings, SET_BY_AGENT};

pub(super) fn warn(events: &Events, env: &Env, procfile: &Procfile, settings: &ReleaseSettings) {
    for text in warnings(env, procfile, settings) {
        events.warn(text);
    }
}

fn warnings(env: &Env, procfile: &Procfile, settings: &ReleaseSettings) -> Vec<String> {
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
    let types = || procfile.services().map(|(kind, _)| kind.as_str());
    if !types().any(|kind| kind == "web") {
        let port = settings.port;
        warnings.push(match types().find(|kind| kind.eq_ignore_ascii_case("web")) {
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

    fn of(env: &str, procfile: &str) -> Vec<String> {
        let env = Env::parse(env.as_bytes()).unwrap();
        let settings = ReleaseSettings::merge(&Env::default(), &env).unwrap();
        let procfile = Procfile::parse(procfile.as_bytes()).unwrap();
        warnings(&env, &procfile, &settings)
    }

    #[test]
    fn a_usual_release_has_no_warnings() {
        let none: [&str; 0] = [];
        assert_eq!(of("PORT=80 A=1", "web: x\nworker: y\nbuild: z\n"), none);
    }

    #[test]
    fn names_variables_that_are_not_passed_on() {
        let said = of("PUBLIC_PORT=443 PS=mine\nPWD=/x\ndeclare -x SHLVL=1", "web: x");
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("PUBLIC_PORT") && !said[0].contains("443"), "{said:?}");
        assert!(said[1].contains("PS"), "{said:?}");
        assert!(said[2].contains("PWD, SHLVL"), "{said:?}");
    }

    #[test]
    fn names_a_procfile_without_web() {
        let said = of("PORT=80", "worker: x");
        assert_eq!(
            said,
            ["the Procfile has no web: no port is opened, and healthy means that all stay up"]
        );
        let said = of("", "Web: x");
        assert!(said[0].contains("has Web and no web"), "{said:?}");
    }
}
