//! The objects that every command needs.

use crate::objects::Objects;
use crate::place::Place;
use crate::report::Report;
use crate::signature::Signer;
use std::sync::Arc;

/// An environment of an app, in its store, and who works on it.
#[derive(Clone)]
pub struct Context {
    pub store: Arc<dyn Objects>,
    pub place: Place,
    /// The person or job.
    pub by: String,
    /// None if releases are not signed.
    pub signer: Option<Signer>,
    pub report: Report,
}
