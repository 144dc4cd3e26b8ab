//! The package of ship that DEPLOY_SHIP_DEB names, on a clean machine and beside the agent.

use testkit::instance::{Image, Instance, Network, package, package_of};

const SHIP: &str = "/root/ship.deb";
/// All files but those of dpkg itself.
const FILES: &str = "find /etc /usr /var/lib -xdev -type f | grep -v /dpkg/ | sort";

/// What bash offers for the words that are given, of which the number comes last.
const COMPLETE: &str = r#"
source /usr/share/bash-completion/completions/ship
COMP_WORDS=(ship "$1" "$2") COMP_CWORD=$3
_ship ship "${COMP_WORDS[$3]}" "${COMP_WORDS[$3-1]}"
echo "${COMPREPLY[*]}"
"#;

fn is_wanted() -> bool {
    let is_wanted = std::env::var_os("DEPLOY_SHIP_DEB").is_some();
    if !is_wanted {
        eprintln!("not run: DEPLOY_SHIP_DEB names no package; `make ship` has one");
    }
    is_wanted
}

fn install(machine: &Instance) {
    machine.push(package_of("DEPLOY_SHIP_DEB", "ship-deb"), SHIP);
    let said = machine.exec(&["dpkg", "--install", SHIP]).exits(0);
    assert!(!said.stderr.to_lowercase().contains("warning"), "{said:#?}");
}

fn works(machine: &Instance) {
    let version = machine.sh("dpkg-query --show --showformat='${Version}' deploy-ship");
    let version = version.split('-').next().expect("a version").to_owned();
    assert_eq!(machine.sh("ship --version"), format!("ship {version}\n"));
    for page in ["ship", "ship-deploy", "ship-exec"] {
        let text = machine.sh(&format!("zcat /usr/share/man/man1/{page}.1.gz"));
        assert!(text.contains(".SH EXAMPLES"), "{page}: {text}");
    }
    for file in
        ["zsh/vendor-completions/_ship", "fish/vendor_completions.d/ship.fish", "doc/deploy-ship"]
    {
        machine.exec(&["test", "-s", &format!("/usr/share/{file}")]).exits(0);
    }
    let offered = |words: [&str; 3]| {
        let call = [&["bash", "-c", COMPLETE, "bash"], &words[..]].concat();
        machine.exec(&call).exits(0).stdout
    };
    assert_eq!(offered(["ro", "", "1"]), "rollback\n");
    assert_eq!(offered(["deploy", "--ba", "2"]), "--batch --bake\n");
    let refused = machine.exec(&["ship", "deploy"]).exits(2);
    assert!(refused.stderr.contains("help: give --app"), "{refused:?}");
}

#[test]
fn ship_installs_on_a_clean_machine_and_goes_without_a_trace() {
    if !is_wanted() {
        return;
    }
    let machine = Network::new().instance().boot();
    let before = machine.sh(FILES);
    install(&machine);
    works(&machine);
    machine.exec(&["dpkg", "--purge", "deploy-ship"]).exits(0);
    assert_eq!(before, machine.sh(FILES));
}

#[test]
fn ship_has_a_manual_and_leaves_the_agent_beside_it_alone() {
    if !is_wanted() || std::env::var_os("DEPLOY_DEB").is_none() {
        return;
    }
    let image = Image::base().with_packages("man", &["bsdextrautils", "man-db"]);
    let machine = Network::new().instance().image(&image).boot();
    machine.push(package(), "/root/agent.deb");
    machine.exec(&["dpkg", "--install", "/root/agent.deb"]).exits(0);
    let version = machine.sh("deploy --version");
    install(&machine);
    works(&machine);
    let manual = |page: &str| machine.sh(&format!("MANWIDTH=80 man {page} | col -b"));
    let page = manual("ship");
    assert!(page.contains("SUBCOMMANDS") && page.contains("ship deploy production"), "{page}");
    let page = manual("ship-exec");
    assert!(page.contains("ship exec production"), "{page}");
    machine.exec(&["dpkg", "--purge", "deploy-ship"]).exits(0);
    assert_eq!(machine.sh("deploy --version"), version);
    machine.exec(&["deploy", "status"]).exits(0);
}
