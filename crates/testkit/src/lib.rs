//! Shared code of the test programs and benchmarks: disposable instances with a booted systemd
//! ([`instance`]), an S3 that fails on demand ([`s3`]), HTTP clients that count the outcomes of
//! their requests ([`load`]), and releases created in memory ([`app`], [`graceful`],
//! [`archive`]).
//!
//! [`host`] combines them: an instance with the agent's package installed, and the S3 that it
//! deploys from.
//!
//! The crate does not use the agent's code. It installs the package that `DEPLOY_DEB` names and
//! runs the public command.

#![warn(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

pub mod app;
pub mod archive;
pub mod aws;
pub mod graceful;
pub mod host;
pub mod hostile;
pub mod instance;
pub mod load;
pub mod runtime;
pub mod s3;
pub mod stores;
pub mod syslog;
