//! The lock of a rollout: a lease that is renewed while the rollout goes on.

use super::{Event, Group};
use crate::context::Context;
use crate::lock::{self, Held};
use jiff::SignedDuration;
use model::error::{Error, Exit, Result};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// The age at which it is renewed.
const RENEWED: Duration = Duration::from_secs(20);
/// The age from which nothing may be begun any more, as another ship may have taken over.
const TOO_OLD: Duration = Duration::from_secs(50);
/// How often its age is looked at while something else goes on.
const TICK: Duration = Duration::from_secs(5);

pub struct Lease {
    held: Option<Held>,
    at: Instant,
}

impl Lease {
    pub async fn take(cx: &Context, why: &str) -> Result<Lease> {
        let at = Instant::now();
        let held = lock::take(cx, why, Some(LEASE)).await?;
        Ok(Lease { held: Some(held), at })
    }

    /// Renews it in time. A store that cannot be reached is tried again until the lease ends.
    pub async fn keep(&mut self, group: &Group) -> Result<()> {
        let cx = &group.cx;
        if self.at.elapsed() < RENEWED {
            return Ok(());
        }
        let lost = |why: Option<Error>| {
            let error = Error::new(Exit::Busy, format!("keep the lock of {}", cx.place));
            let error = match why {
                Some(why) => error.because(why),
                None => error.because("its lease ran out"),
            };
            error.help(super::record::follow(cx))
        };
        let Some(held) = self.held.take() else { return Err(lost(None)) };
        let at = Instant::now();
        let kept = held.clone();
        match lock::renew(cx, held, LEASE).await {
            Ok(held) => (self.held, self.at) = (Some(held), at),
            Err(error) if error.exit() == Exit::Busy => return Err(lost(Some(error))),
            Err(error) if self.at.elapsed() >= TOO_OLD => return Err(lost(Some(error))),
            Err(error) => {
                let text = format!("the lock is not renewed yet: {}", error.chain());
                group.tell(Event::Warning { text });
                self.held = Some(kept);
            }
        }
        Ok(())
    }

    /// Does work that may take longer than the lease, which is renewed meanwhile. The work is
    /// given up if the lock is lost.
    pub async fn during<T>(&mut self, group: &Group, work: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = sleep(TICK) => self.keep(group).await?,
            }
        }
    }

    /// Gives it back. If that fails, it ends by itself.
    pub async fn give_back(&mut self, group: &Group) {
        if let Some(held) = self.held.take()
            && let Err(error) = lock::give_back(&group.cx, held).await
        {
            let text = format!("the lock ends in 60s by itself: {}", error.chain());
            group.tell(Event::Warning { text });
        }
    }
}
