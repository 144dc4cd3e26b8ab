//! The spec file, which rpmbuild reads.

use crate::Result;
use crate::manifest::Package;
use std::fmt::Write;
use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The scripts in packaging/rpm; rpm-scriptlets(7) says when each runs.
const SCRIPTS: [&str; 4] = ["post", "posttrans", "preun", "postun"];

/// Directories that belong to the package, and are removed with it.
const DIRECTORIES: [&str; 6] = [
    "/etc/deploy",
    "/usr/lib/deploy-agent",
    "/usr/lib/systemd/system/deployd.service.d",
    "/usr/share/doc/deploy-agent",
    "/usr/share/doc/deploy-agent/examples",
    "/usr/share/doc/deploy-agent/examples/rsyslog",
];

/// Packs the tree as it is: the programs are stripped already, and the man pages compressed.
/// The same input makes the same package, whatever the machine and the hour.
const HOW: &str = "\
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _binary_payload w10.zstdio
%global _buildhost localhost
%global source_date_epoch_from_changelog 1
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
";

/// Returns the spec of a package of the files `laid` below `tree`.
pub fn text(package: &Package, version: &str, tree: &Path, laid: &[String]) -> Result<String> {
    let mut text = HOW.to_owned();
    let name = package.text("name")?;
    let fields = [
        ("Name", name),
        // 0.2.0-rc.1 comes before 0.2.0.
        ("Version", &version.replace('-', "~")),
        ("Release", "1"),
        ("Summary", package.text("description")?),
        ("License", package.text("license")?),
        ("Packager", package.deb("maintainer")?),
        ("Requires(post)", "systemd"),
        ("Requires(preun)", "systemd"),
    ];
    for (field, value) in fields {
        writeln!(text, "{field}: {}", literal(value))?;
    }
    for (field, list) in [("Requires", "depends"), ("Recommends", "recommends")] {
        for one in relations(package.deb(list)?) {
            writeln!(text, "{field}: {one}")?;
        }
    }
    let read = |path: &str| fs::read_to_string(package.root.join(path));
    writeln!(
        text,
        "\n%description\n{}",
        literal(&read(package.deb("extended-description-file")?)?)
    )?;
    writeln!(text, "%install\ncp -a {}/. %{{buildroot}}/\n", literal(&tree.display().to_string()))?;
    for script in SCRIPTS {
        let path = format!("packaging/rpm/{script}");
        let body = read(&path).map_err(|error| format!("{path}: {error}"))?;
        writeln!(text, "%{script}\n{}", literal(&body))?;
    }
    writeln!(text, "%files")?;
    for dir in DIRECTORIES {
        writeln!(text, "%dir %attr(0755,root,root) {dir}")?;
    }
    for path in laid {
        writeln!(text, "{}", entry(path, &fs::metadata(tree.join(path))?))?;
    }
    write!(text, "\n%changelog\n{}", changelog(&read(package.deb("changelog")?)?)?)?;
    Ok(text)
}

/// A text in which rpm expands no macro.
fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// A file's line below `%files`. A file in /etc that an operator has changed is kept.
fn entry(path: &str, metadata: &Metadata) -> String {
    let mode = metadata.permissions().mode() & 0o7777;
    let config = if path.starts_with("etc/") { "%config(noreplace) " } else { "" };
    format!("{config}%attr({mode:04o},root,root) /{path}")
}

/// Packages that have another name in distributions with rpm.
const NAMES: [(&str, &str); 1] = [("openssh-client", "openssh")];

/// Debian's `systemd (>= 252)` in the syntax of rpm, which finds shared libraries by itself.
fn relations(list: &str) -> impl Iterator<Item = String> {
    let all = list.split(',').map(str::trim).filter(|one| *one != "$auto");
    all.map(|one| match NAMES.iter().find(|(debian, _)| *debian == one) {
        Some((_, rpm)) => (*rpm).to_owned(),
        None => one.replace(['(', ')'], ""),
    })
}

/// The Debian changelog in the syntax of rpm.
fn changelog(debian: &str) -> Result<String> {
    let (mut whole, mut version, mut points) = (String::new(), "", String::new());
    for line in debian.lines() {
        if let Some(point) = line.strip_prefix("  * ") {
            writeln!(points, "- {}", literal(point))?;
        } else if let Some(more) = line.strip_prefix("    ") {
            writeln!(points, "  {}", literal(more))?;
        } else if let Some(signed) = line.strip_prefix(" -- ") {
            let (who, when) = signed.split_once("  ").ok_or("changelog: no date in a signature")?;
            let words: Vec<&str> = when.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let [weekday, day, month, year, ..] = words[..] else {
                return Err(format!("changelog: not a date: {when}").into());
            };
            writeln!(whole, "* {weekday} {month} {day} {year} {who} - {version}")?;
            writeln!(whole, "{points}")?;
            points.clear();
        } else if let Some((_, rest)) = line.split_once(" (") {
            version = rest.split(')').next().unwrap_or_default();
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::{changelog, literal, relations};

    #[test]
    fn relations_are_those_of_debian_without_its_libraries() {
        let found: Vec<String> =
            relations("$auto, dbus, systemd (>= 252), openssh-client").collect();
        assert_eq!(found, ["dbus", "systemd >= 252", "openssh"]);
    }

    #[test]
    fn a_script_has_no_macros() {
        assert_eq!(literal("stat -c %U ${app%/current}"), "stat -c %%U ${app%%/current}");
    }

    #[test]
    fn each_entry_of_the_changelog_is_kept() {
        let debian = "deploy-agent (0.2.0-1) unstable; urgency=medium\n\n  * More.\n    Of it.\n\n \
            -- The team <a@b.invalid>  Fri, 20 Nov 2026 12:00:00 +0000\n\ndeploy-agent (0.1.0-1) \
            unstable; urgency=medium\n\n  * First.\n\n -- The team <a@b.invalid>  Thu, 19 Nov \
            2026 12:00:00 +0000\n";
        let expected = "* Fri Nov 20 2026 The team <a@b.invalid> - 0.2.0-1\n- More.\n  Of it.\n\n\
            * Thu Nov 19 2026 The team <a@b.invalid> - 0.1.0-1\n- First.\n\n";
        assert_eq!(changelog(debian).unwrap(), expected);
        assert!(changelog(" -- The team\n").is_err());
    }
}
