//! env: the process gets the variables that bash would set, and no one else sees them.

use std::collections::{BTreeMap, BTreeSet};
use testkit::app::{Release, url};
use testkit::host::{Host, SECRET_KEY, SOON};

type Variables = BTreeMap<String, String>;

/// Fragments that quoting, systemd, bash or printf might mishandle.
const PIECES: [&str; 24] = [
    "",
    "plain",
    " ",
    "  ",
    "\\",
    "\\\\",
    "\"",
    "'",
    "`",
    "$",
    "$HOME",
    "${A}",
    "%i",
    "%%",
    "#",
    ";",
    "\n",
    "\r",
    "\t",
    "\u{1}",
    "\u{7f}",
    "é☃😀",
    "=",
    "*",
];

/// Variables that systemd, the agent, or a bash in between set for every process.
const NOT_OF_ENV: [&str; 23] = [
    "DEPLOY_APP",
    "DEPLOY_ENVIRONMENT",
    "DEPLOY_RELEASE",
    "DEPLOY_SHARED",
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "MEMORY_PRESSURE_WATCH",
    "OLDPWD",
    "PATH",
    "PORT",
    "PS",
    "PUBLIC_PORT",
    "PWD",
    "PYTHONUNBUFFERED",
    "SHELL",
    "SHLVL",
    "SYSTEMD_EXEC_PID",
    "USER",
    "_",
];

#[test]
fn a_process_gets_the_variables_that_bash_would_set() {
    let host = Host::boot();
    let env = nasty_env();
    host.publish(&Release::new("r1").env(env.clone()));
    host.write("/root/env", env);
    host.deploys("r1");
    let bash = ["env", "-i", "LC_ALL=C.UTF-8", "bash", "--norc", "--noprofile", "-c"];
    let bash = [&bash[..], &["set -a; . /root/env; exec /usr/bin/env -0 >/root/expected"]].concat();
    host.exec(&bash).ok();
    let expected = variables(&host.read("/root/expected"));
    assert!(expected.len() >= 200, "{}", expected.len());
    for pid in host.pids() {
        let seen = variables(&host.read(&format!("/proc/{pid}/environ")));
        for (name, value) in &expected {
            assert_eq!(seen.get(name), Some(value), "{name}");
        }
        assert_eq!(seen.len(), expected.len(), "{:?}", seen.keys().collect::<Vec<_>>());
    }
    let own = host.read(&format!("/proc/{}/environ", host.pids()[0]));
    let own = String::from_utf8_lossy(&own).into_owned();
    let port = format!("PORT={}", host.web_listens_on()[0]);
    for variable in [
        port.as_str(),
        "PUBLIC_PORT=5000",
        "PS=web.1",
        "HOME=/var/lib/deploy/apps/my-app/releases/r1/home/web.1",
        "DEPLOY_SHARED=/var/lib/deploy/apps/my-app/shared",
        "DEPLOY_APP=my-app",
        "DEPLOY_ENVIRONMENT=production",
        "DEPLOY_RELEASE=r1",
    ] {
        assert!(own.split('\0').any(|one| one == variable), "{variable}: {own:?}");
    }
}

/// 200 variables in every style of quoting, with the same values in every run.
fn nasty_env() -> String {
    let mut state = 2_463_534_242_u32;
    let mut random = |below: usize| {
        // xorshift (G. Marsaglia)
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    let mut env = String::from("# every way of quoting\nPORT=5000 PS=not-this\n");
    for number in 0..200 {
        let value: String = (0..random(7)).map(|_| PIECES[random(PIECES.len())]).collect();
        let value = match number % 3 {
            0 => format!("'{}'", value.replace('\'', "'\\''")),
            1 => {
                let special = |c| matches!(c, '"' | '\\' | '`' | '$');
                let escape = |c| if special(c) { format!("\\{c}") } else { c.to_string() };
                format!("\"{}\"", value.chars().map(escape).collect::<String>())
            }
            _ => {
                let escape = |c: char| match c {
                    '\\' | '\'' => format!("\\{c}"),
                    '\u{1}'..='\u{1f}' | '\u{7f}' => format!("\\x{:02x}", u32::from(c)),
                    _ => c.to_string(),
                };
                format!("$'{}'", value.chars().map(escape).collect::<String>())
            }
        };
        let export = if number % 2 == 0 { "export " } else { "" };
        env.push_str(&format!("{export}V{number}={value}\n"));
    }
    env + "COPY=\"$V1${V2}\"\n"
}

fn variables(environ: &[u8]) -> Variables {
    let text = String::from_utf8(environ.to_vec()).expect("UTF-8");
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    let of_env = pairs.filter(|(name, _)| !NOT_OF_ENV.contains(name));
    of_env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn values_of_env_are_found_only_in_env_and_its_processes() {
    const MARKER: &str = "marker-of-a-secret-value";
    let host = Host::boot();
    let with_secret = |release: Release| release.set(&format!("TOKEN='{MARKER}'"));
    let build = "web: python3 app.py web\nbuild: echo has $(($(echo $TOKEN | wc -c)-1)); sleep 2\n";
    host.publish(&with_secret(Release::new("r1")).procfile(build));
    let r1 = url("r1");
    let deploying = host.command(&["deploy", "--json", &r1]).spawn();
    let shown = host.wait_for("build", SOON, || {
        let show = "systemctl show --all 'deploy-my-app-build:*'";
        Some(host.sh(show)).filter(|shown| shown.contains("MainPID="))
    });
    assert!(!shown.contains(MARKER), "{shown}");
    let said = deploying.output().exits(0);
    assert!(said.stdout.contains(&format!("has {}", MARKER.len())), "{said:?}");

    let mut answers = vec![format!("{said:?}")];
    let broken = [
        with_secret(Release::new("crash")).set("BEHAVE=crash"),
        with_secret(Release::new("bad-env")).set(&format!("A={MARKER}$(id)")),
        with_secret(Release::new("bad-name")).set(&format!("DEPLOY_NAME={MARKER}")),
        with_secret(Release::new("bad-build")).procfile("build: exit 1\nweb: true\n"),
    ];
    for (name, release) in ["crash", "bad-env", "bad-name", "bad-build"].into_iter().zip(&broken) {
        host.publish(release);
        for arguments in [vec!["plan", "--json"], vec!["stage"], vec!["--json"]] {
            let said = host.deploy(&[&arguments[..], &[&url(name)]].concat());
            answers.push(format!("{arguments:?} {name}: {said:?}"));
        }
    }
    host.publish(&with_secret(Release::new("r2")).set(&format!("OTHER={MARKER}")));
    for arguments in [
        &["plan", &url("r2")][..],
        &["plan", &url("r2"), "--json"],
        &[&url("r2")],
        &["status"],
        &["status", "--json"],
        &["releases", "--json"],
        &["history", "--json"],
        &["logs"],
    ] {
        answers.push(host.deploy(arguments).ok());
    }
    answers.push(host.journal(&["--output=export", "--all"]));
    answers.push(
        host.sh("systemctl show --all '*'; systemctl cat 'deploy*' || true; ps axww -o args"),
    );
    answers.push(host.sh(
        "for unit in $(busctl tree --list org.freedesktop.systemd1 | grep deploy)
        do busctl call org.freedesktop.systemd1 $unit org.freedesktop.DBus.Properties GetAll s ''
        done",
    ));
    for answer in &answers {
        for secret in [MARKER, SECRET_KEY] {
            assert!(!answer.contains(secret), "{answer}");
        }
    }

    let files =
        format!("grep -rlaF {MARKER} /etc /home /opt /root /run /srv /tmp /usr/local /var || true");
    let files = host.sh(&files);
    assert!(
        files.contains("/releases/r1/env\n") && files.contains("/releases/r2/env\n"),
        "{files}"
    );
    for file in files.lines() {
        assert!(file.ends_with("/env"), "{files}");
        assert_eq!(host.sh(&format!("stat -c '%a %U' {file}")), "600 root\n", "{file}");
    }
    let files = host.sh(&format!("grep -rlaF {SECRET_KEY} /etc /home /root /run /srv /tmp /var"));
    assert_eq!(files, "/etc/deploy/agent.env\n");
    // The marker is sent on stdin: as an argument of grep it would be found itself. A process
    // may end during the search.
    let search = "grep -lasF -f /dev/stdin /proc/[0-9]*/environ /proc/[0-9]*/cmdline";
    let processes = host.command(&["bash", "-c", search]).input(MARKER).output().stdout;
    let [web, worker] = host.pids();
    let found: BTreeSet<_> = processes.lines().map(str::to_owned).collect();
    assert_eq!(found, BTreeSet::from([web, worker].map(|pid| format!("/proc/{pid}/environ"))));
}
