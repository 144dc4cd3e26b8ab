//! The examples of each command's help, in lines of at most 80 columns.

pub const RELEASE: &str = "\
Examples:
  ship release staging                    the commit that is checked out
  ship release staging --source v1.4      a tag, a branch or another commit
  ship release staging --source dist      the files of a directory as they are
  ship release --dirty                    with the changes in the working tree";

pub const RELEASES: &str = "\
Examples:
  ship releases production
  ship releases production -n 5 --json";

pub const PROMOTE: &str = "\
Examples:
  ship promote staging production         what `current` of staging names
  ship promote staging production r41";

pub const CONFIG: &str = "\
Examples:
  ship config get -e production           the names of all variables
  ship config get -e production MAIL_FROM
  ship config set -e production WORKERS=4 --release
  ship config set -e production API_KEY   asks for the value, and shows it not
  ship config edit -e production
  ship config diff -e production          what the next release changes";

pub const CONFIG_GET: &str = "\
Examples:
  ship config get
  ship config get -e production MAIL_FROM";

pub const CONFIG_SET: &str = "\
Examples:
  ship config set MAIL_FROM=shop@example.com WORKERS=4
  ship config set API_KEY <key.txt
  ship config set -e production WORKERS=4 --release";

pub const CONFIG_UNSET: &str = "\
Examples:
  ship config unset WORKERS
  ship config unset -e production WORKERS MAIL_FROM --release";

pub const CONFIG_EDIT: &str = "\
Examples:
  ship config edit
  EDITOR=nano ship config edit -e production --release";

pub const CONFIG_DIFF: &str = "\
Examples:
  ship config diff
  ship config diff -e production r41";

pub const LOCK: &str = "\
Examples:
  ship lock production -m 'the database moves until noon'";

pub const UNLOCK: &str = "\
Examples:
  ship unlock production
  ship unlock production --force          of a ship that is surely gone";

pub const DEPLOY: &str = "\
Examples:
  ship deploy production                  the newest release, on all instances
  ship deploy production r41 --dry-run    the batches that it would have
  ship deploy production --batch 1,5,50% --bake 120s
  ship deploy production --json | jq .    each event as an object";

pub const ROLLBACK: &str = "\
Examples:
  ship rollback production                the release before the last deploy
  ship rollback production --to r38";

pub const ATTACH: &str = "\
Examples:
  ship attach production                  the newest rollout
  ship attach production 5b1f03c2";

pub const CANCEL: &str = "\
Examples:
  ship cancel production
  ship cancel production && ship attach production";

pub const HISTORY: &str = "\
Examples:
  ship history production
  ship history production -n 100 --json";

pub const PS: &str = "\
Examples:
  ship ps production
  ship ps production --watch
  ship ps production --json | jq -r '.[] | select(.drift) | .host'";

pub const EXEC: &str = "\
Examples:
  ship exec production -- bin/rails console
  ship exec production --host web2 -- bash -c 'ls tmp | wc -l'
  ship exec production --all -- node --version";

pub const SSH: &str = "\
Examples:
  ship ssh production                     the first instance in service
  ship ssh production web2
  echo uptime | ship ssh production web2";

pub const LOGS: &str = "\
Examples:
  ship logs production -f                 what all write, as they write it
  ship logs production web.1 -n 20        the last lines of each one's web.1
  ship logs production --since 10m --host web2";

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use clap::{Command, CommandFactory};

    fn check(command: &Command, path: &str) {
        for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
            let path = format!("{path} {}", one.get_name());
            let help = one.clone().term_width(80).render_long_help().to_string();
            assert!(help.contains("Examples:\n"), "{path} has no example");
            assert!(help.contains(&format!("  {path}")), "{path} has none of its own");
            narrow(one, &path);
            check(one, &path);
        }
    }

    /// Lines that are formatted by hand must not be wrapped.
    fn narrow(command: &Command, path: &str) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{path}: {line}");
        }
    }

    #[test]
    fn every_command_has_examples_and_fits_eighty_columns() {
        narrow(&Cli::command(), "ship");
        check(&Cli::command(), "ship");
    }

    #[test]
    fn every_example_is_a_command_line() {
        let mut command = Cli::command();
        command.build();
        let texts = [super::RELEASE, super::DEPLOY, super::EXEC, super::LOGS, super::SSH];
        for line in texts.iter().flat_map(|text| text.lines().skip(1)) {
            let line = line.trim().split("   ").next().unwrap_or_default();
            let words = line.split(" | ").next().unwrap_or_default().split(' ');
            let words: Vec<&str> = words.collect();
            if words[0] == "ship" {
                let parsed = Cli::command().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{line}: {parsed:?}");
            }
        }
    }
}
