//! Converts lines of a unit file to properties of a transient unit, so that the same text confines
//! a command that runs once and a service.

use super::Property;
use model::error::{Error, Result};
use nix::errno::Errno;

/// The syntax of a property's value in a unit file; the types on D-Bus are those of
/// org.freedesktop.systemd1(5).
#[derive(Clone, Copy)]
enum Form {
    /// `yes`
    Bool,
    /// A word.
    Text,
    /// A path or an assignment; the line may be repeated.
    List,
    /// Several words on one line.
    Words,
    /// An allow list of words.
    Allowed,
    /// A number, of bytes or tasks.
    Bytes,
    /// Empty, or `yes` if that allows nothing: the empty set of flags.
    Nothing,
    /// The name of an error.
    Errno,
    /// `PATH:OPTIONS`
    Mount,
    /// A path that is bound to the same path.
    Bind,
}

const FORMS: [(&str, Form); 32] = [
    ("AmbientCapabilities", Form::Nothing),
    ("BindReadOnlyPaths", Form::Bind),
    ("CapabilityBoundingSet", Form::Nothing),
    ("Environment", Form::List),
    ("LockPersonality", Form::Bool),
    ("MemoryMax", Form::Bytes),
    ("OOMPolicy", Form::Text),
    ("NoNewPrivileges", Form::Bool),
    ("PrivateDevices", Form::Bool),
    ("PrivateMounts", Form::Bool),
    ("PrivateTmp", Form::Bool),
    ("PrivateUsers", Form::Bool),
    ("ProtectClock", Form::Bool),
    ("ProtectControlGroups", Form::Bool),
    ("ProtectHome", Form::Text),
    ("ProtectHostname", Form::Bool),
    ("ProtectKernelLogs", Form::Bool),
    ("ProtectKernelModules", Form::Bool),
    ("ProtectKernelTunables", Form::Bool),
    ("ProtectProc", Form::Text),
    ("ProtectSystem", Form::Text),
    ("ReadWritePaths", Form::List),
    ("RemoveIPC", Form::Bool),
    ("RestrictAddressFamilies", Form::Allowed),
    ("RestrictNamespaces", Form::Nothing),
    ("RestrictRealtime", Form::Bool),
    ("RestrictSUIDSGID", Form::Bool),
    ("SystemCallArchitectures", Form::Words),
    ("SystemCallErrorNumber", Form::Errno),
    ("SystemCallFilter", Form::Allowed),
    ("TasksMax", Form::Bytes),
    ("TemporaryFileSystem", Form::Mount),
];

/// Parses `Name=value` lines. A line that D-Bus cannot express is an error: without it the command
/// would be less confined than the text demands.
pub fn properties(text: &str) -> Result<Vec<(&'static str, Property)>> {
    let mut read: Vec<(&'static str, Property)> = Vec::new();
    for line in text.lines() {
        let refused = || Error::failed(format!("make a property of the line {line}"));
        let (name, value) = line.split_once('=').ok_or_else(refused)?;
        let known = FORMS.iter().find(|(known, _)| *known == name);
        let (name, form) = known.ok_or_else(refused)?;
        let property = property(*form, value).ok_or_else(refused)?;
        match (read.iter_mut().find(|(there, _)| there == name), property) {
            (Some((_, Property::List(all))), Property::List(more)) => all.extend(more),
            (Some((_, Property::Pairs(all))), Property::Pairs(more)) => all.extend(more),
            (Some((_, Property::Binds(all))), Property::Binds(more)) => all.extend(more),
            (_, property) => read.push((name, property)),
        }
    }
    Ok(read)
}

fn property(form: Form, value: &str) -> Option<Property> {
    let words = || value.split_ascii_whitespace().map(str::to_owned).collect();
    Some(match form {
        Form::Bool => Property::Bool(match value {
            "yes" => true,
            "no" => false,
            _ => return None,
        }),
        Form::Text => Property::Text(value.to_owned()),
        Form::List => Property::List(vec![literal(value)]),
        Form::Words => Property::List(words()),
        Form::Allowed if value.starts_with('~') => return None,
        Form::Allowed => Property::Allowed(words()),
        Form::Bytes => Property::Number(value.parse().ok()?),
        Form::Nothing if value.is_empty() || value == "yes" => Property::Number(0),
        Form::Nothing => return None,
        Form::Errno if value == "EPERM" => Property::Int(Errno::EPERM as i32),
        Form::Errno => return None,
        Form::Mount => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            Property::Pairs(vec![(literal(path), options.to_owned())])
        }
        Form::Bind => Property::Binds(vec![(literal(value), literal(value))]),
    })
}

/// Expands `%%`, and `%i` as the number of a single process.
fn literal(value: &str) -> String {
    value.replace("%i", "1").replace("%%", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_one_name_become_one_property() {
        let text = "ReadWritePaths=-/a/100%%\nPrivateTmp=yes\nReadWritePaths=-/b\n";
        let read = properties(text).expect("properties");
        let [("ReadWritePaths", Property::List(paths)), ("PrivateTmp", Property::Bool(true))] =
            &read[..]
        else {
            panic!("{} properties", read.len());
        };
        assert_eq!(paths, &["-/a/100%", "-/b"]);
    }

    #[test]
    fn a_line_that_cannot_be_converted_is_an_error() {
        for line in ["Unheard=yes", "PrivateTmp=perhaps", "SystemCallFilter=~@mount", "no line"] {
            assert!(properties(line).is_err(), "{line}");
        }
    }
}
