//! The Cargo.toml of a package, as parsed by cargo.

use crate::Result;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// The programs that are packaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The package at the root of the workspace.
    Agent,
    Ship,
}

/// A package of the workspace.
pub struct Package {
    whole: Value,
    /// The directory of its Cargo.toml.
    pub base: PathBuf,
    /// The root of the workspace.
    pub root: PathBuf,
    /// The directory in which cargo builds.
    pub target: PathBuf,
}

impl Package {
    /// Reads that of the agent.
    pub fn read() -> Result<Package> {
        Package::of(Program::Agent)
    }

    /// Reads it from `cargo metadata`.
    pub fn of(program: Program) -> Result<Package> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let asked = Command::new(cargo)
            .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version=1"])
            .output()?;
        if !asked.status.success() {
            return Err(String::from_utf8_lossy(&asked.stderr).into());
        }
        let mut answer: Value = serde_json::from_slice(&asked.stdout)?;
        let dir = |name: &str| answer[name].as_str().map(PathBuf::from);
        let root = dir("workspace_root").ok_or("cargo metadata names no root")?;
        let target = dir("target_directory").ok_or("cargo metadata names no target directory")?;
        let base = match program {
            Program::Agent => root.clone(),
            Program::Ship => root.join("crates/ship"),
        };
        let manifest = base.join("Cargo.toml");
        let packages = answer["packages"].as_array_mut().ok_or("cargo metadata has no packages")?;
        let is_ours = |one: &&mut Value| one["manifest_path"].as_str() == manifest.to_str();
        let ours = packages.iter_mut().find(is_ours).ok_or("no such package")?;
        let whole = ours.take();
        Ok(Package { whole, base, root, target })
    }

    /// A field of `[package]`.
    pub fn text(&self, field: &str) -> Result<&str> {
        let text = self.whole[field].as_str();
        text.ok_or_else(|| format!("Cargo.toml: no {field} in [package]").into())
    }

    /// A field of `[package.metadata.deb]`.
    pub fn deb(&self, field: &str) -> Result<&str> {
        let text = self.deb_if_any(field);
        text.ok_or_else(|| format!("Cargo.toml: no {field} in [package.metadata.deb]").into())
    }

    /// A field of `[package.metadata.deb]` that a package may lack.
    pub fn deb_if_any(&self, field: &str) -> Option<&str> {
        self.whole["metadata"]["deb"][field].as_str()
    }

    /// The name of the Debian package.
    pub fn name(&self) -> Result<&str> {
        self.deb_if_any("name").map_or_else(|| self.text("name"), Ok)
    }

    /// The files of the Debian package: source, destination and mode.
    pub fn assets(&self) -> Result<Vec<[&str; 3]>> {
        let wrong = || "Cargo.toml: assets of [package.metadata.deb] are not lists of three texts";
        let assets = self.whole["metadata"]["deb"]["assets"].as_array().ok_or_else(wrong)?;
        assets.iter().map(three_texts).collect::<Option<_>>().ok_or_else(|| wrong().into())
    }
}

fn three_texts(asset: &Value) -> Option<[&str; 3]> {
    let texts: Option<Vec<&str>> = asset.as_array()?.iter().map(Value::as_str).collect();
    texts?.try_into().ok()
}
