//! What systemd and the journal said of real services: `tests/e2e/recorded.rs` records it, and
//! the fast tests read it.

use super::journal::{Line, entry};
use super::service_status::{Properties, ServiceStatus, status_of};
use serde_json::Value;
use std::fs;
use std::sync::LazyLock;
use zbus::{OwnedVariant, Variant};

/// Returns the state of a recorded service.
pub fn status(case: &str) -> ServiceStatus {
    static SERVICES: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(&read("services.json")).expect("JSON"));
    let both = &SERVICES[case];
    assert!(both.is_object(), "{case} is not recorded");
    status_of(&properties(&both["unit"]), &properties(&both["service"]))
}

/// Returns the recorded lines of one service, and the message of its failure.
pub fn lines() -> Vec<Line> {
    read("journal.jsonl").lines().map(|line| entry(line).expect("an entry")).collect()
}

fn read(name: &str) -> String {
    let path = format!("{}/tests/recorded/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads busctl's JSON, which names the D-Bus type of each value.
fn properties(recorded: &Value) -> Properties {
    let each = recorded.as_object().expect("properties").iter().map(|(name, value)| {
        let data = &value["data"];
        let number = || data.as_u64().expect("a number");
        let value = match value["type"].as_str().expect("a type") {
            "s" => Variant::from(data.as_str().expect("a text")),
            "u" => Variant::from(u32::try_from(number()).expect("a u32")),
            "i" => Variant::from(i32::try_from(number()).expect("an i32")),
            "t" => Variant::from(number()),
            "ay" => {
                let bytes = data.as_array().expect("bytes").iter();
                let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
                Variant::from(bytes.filter_map(byte).collect::<Vec<u8>>())
            }
            other => panic!("a property of type {other}"),
        };
        (name.clone(), OwnedVariant::try_from(value).expect("a value"))
    });
    each.collect()
}
