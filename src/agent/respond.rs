//! Responses to callers: a stream of events, a known outcome, an error.

use super::jobs::Job;
use crate::deploy::Done;
use crate::events::Follower;
use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use model::error::{Error, Exit};
use model::event::{Event, Outcome};

/// An error as a response: its outcome, with a status that is not 200.
pub(super) struct Failure(pub(super) Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.exit() {
            Exit::Usage => StatusCode::BAD_REQUEST,
            Exit::Busy => StatusCode::CONFLICT,
            Exit::Unusable | Exit::Source => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Outcome::from(&self.0))).into_response()
    }
}

pub(super) type Reply<T> = std::result::Result<T, Failure>;

/// The outcome of work that is done.
pub(super) fn done(done: Done) -> Outcome {
    let mut outcome = Outcome::done(done.message);
    outcome.release = done.release.map(|label| label.to_string());
    outcome
}

/// Streams the events of a job as they come, one JSON object per line.
pub(super) fn stream(job: &Job) -> Response {
    let begun = futures_util::stream::iter([line(&job.begun())]);
    let events = futures_util::stream::unfold(Some(job.events.follow()), next);
    lines(Body::from_stream(begun.chain(events)))
}

/// The response for a job that has ended already.
pub(super) fn ended_stream(begun: Event, outcome: Outcome) -> Response {
    let events = [line(&begun), line(&Event::Ended { outcome })];
    lines(Body::from_stream(futures_util::stream::iter(events)))
}

pub(super) fn lines(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

type Line = std::result::Result<Vec<u8>, serde_json::Error>;

fn line(event: &Event) -> Line {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

async fn next(follower: Option<Follower>) -> Option<(Line, Option<Follower>)> {
    let mut follower = follower?;
    let event = follower.next().await?;
    let last = matches!(event, Event::Ended { .. });
    Some((line(&event), (!last).then_some(follower)))
}
