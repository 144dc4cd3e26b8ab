//! A group on r7, its store, and a ship that can be killed.

use crate::context::Context;
use crate::fleet::{Host, Order, Progress, Seen, Ticket, Transport, fake};
use crate::objects::memory::Memory;
use crate::objects::{Condition, Listing, Object, Objects, Written};
use crate::rollout::{Action, Batches, Event, Group, Verdict, Wish, attach, start};
use crate::testing::in_store;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use model::error::Result;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

pub struct World {
    pub store: Arc<Memory>,
    pub group: Arc<fake::Group>,
    pub events: Arc<Mutex<Vec<Event>>>,
    ticking: Arc<Ticking>,
}

/// The store as ship has it: its clock goes on with tokio's, and a ship can die at each request.
pub struct Ticking {
    store: Arc<Memory>,
    begun: Instant,
    /// Milliseconds that the store's clock has been moved.
    moved: AtomicI64,
    requests: AtomicUsize,
    /// The request at which the ship dies: before it if it is even, after it if it is odd.
    dies_at: AtomicUsize,
}

impl Ticking {
    fn tick(&self) {
        let now = i64::try_from(self.begun.elapsed().as_millis()).expect("a short story");
        let before = self.moved.swap(now, Ordering::SeqCst);
        self.store.pass(SignedDuration::from_millis(now - before));
    }

    /// Never returns from the point on where the ship dies.
    async fn point(&self) {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        if number >= self.dies_at.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    async fn around<T>(&self, request: impl Future<Output = T>) -> T {
        self.tick();
        self.point().await;
        let result = request.await;
        self.point().await;
        result
    }
}

#[async_trait]
impl Objects for Ticking {
    async fn responds(&self, key: &str) -> Result<()> {
        self.store.responds(key).await
    }

    async fn get(&self, key: &str) -> Result<Option<Object>> {
        self.tick();
        self.store.get(key).await
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Written> {
        self.around(self.store.put(key, bytes, condition)).await
    }

    async fn upload(&self, key: &str, file: &Path) -> Result<()> {
        self.store.upload(key, file).await
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        self.store.copy(from, to).await
    }

    async fn delete(&self, key: &str, etag: &str) -> Result<Written> {
        self.around(self.store.delete(key, etag)).await
    }

    async fn list(&self, prefix: &str, most: usize) -> Result<Listing> {
        self.store.list(prefix, most).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.tick();
        self.store.now().await
    }

    fn url(&self, key: &str) -> String {
        self.store.url(key)
    }
}

/// The way to the group, on which a ship can die too.
struct Mortal(Arc<fake::Group>, Arc<Ticking>);

#[async_trait]
impl Transport for Mortal {
    fn most(&self) -> usize {
        self.0.most()
    }

    async fn look(
        &self,
        app: &str,
        hosts: &[Host],
    ) -> Result<BTreeMap<Host, Result<Seen, String>>> {
        self.0.look(app, hosts).await
    }

    async fn begin(&self, order: &Order, hosts: &[Host]) -> Result<Ticket> {
        self.1.around(self.0.begin(order, hosts)).await
    }

    async fn poll(&self, ticket: &Ticket) -> Result<BTreeMap<Host, Progress>> {
        self.1.point().await;
        self.0.poll(ticket).await
    }

    async fn cancel(&self, ticket: &Ticket) -> Result<()> {
        self.0.cancel(ticket).await
    }

    async fn let_go(&self) -> Result<()> {
        self.0.let_go().await
    }
}

impl World {
    pub fn of(instances: usize) -> World {
        let store = Arc::new(Memory::default());
        store.overwrite("shop/production/current", "r7\n");
        let ticking = Arc::new(Ticking {
            store: Arc::clone(&store),
            begun: Instant::now(),
            moved: AtomicI64::new(0),
            requests: AtomicUsize::new(0),
            dies_at: AtomicUsize::new(usize::MAX),
        });
        let group = Arc::new(fake::Group::of(instances, Some("r7")));
        World { store, group, events: Arc::default(), ticking }
    }

    pub fn cx(&self, by: &str) -> Context {
        let store = Arc::clone(&self.ticking) as Arc<dyn Objects>;
        Context { store, by: by.to_owned(), ..in_store(&self.store, "production") }
    }

    pub fn ship(&self, by: &str) -> Group {
        let events = Arc::clone(&self.events);
        Group {
            cx: self.cx(by),
            fleet: self.group.clone(),
            transport: Arc::new(Mortal(self.group.clone(), self.ticking.clone())),
            guard: None,
            patience: Duration::from_secs(600),
            events: Arc::new(move |event| events.lock().expect("events").push(event.clone())),
        }
    }

    pub fn wish(&self, to: &str) -> Wish {
        Wish {
            action: Action::Deploy,
            to: to.to_owned(),
            batches: Batches::default(),
            bake: Duration::ZERO,
            skip_unreachable: false,
            run_release: false,
        }
    }

    pub async fn start(&self, wish: &Wish) -> Result<Verdict> {
        let rollout = start(&self.ship("Ada"), wish).await?;
        Ok(rollout.verdict.expect("a verdict"))
    }

    pub async fn deploy(&self, to: &str) -> Verdict {
        self.start(&self.wish(to)).await.expect("an end")
    }

    pub async fn rollback(&self, to: &str) -> Verdict {
        let wish = Wish { action: Action::Rollback, ..self.wish(to) };
        self.start(&wish).await.expect("an end")
    }

    pub async fn attach(&self) -> Verdict {
        let rollout = attach(&self.ship("Bob"), None).await.expect("an end");
        rollout.verdict.expect("a verdict")
    }

    /// Starts a rollout whose ship is killed at its nth point; returns whether it has so many.
    pub async fn is_killed(&self, wish: &Wish, point: usize) -> bool {
        let ship = self.ship("Ada");
        self.is_killed_in(start(&ship, wish), point).await
    }

    /// The same of any work of a ship.
    pub async fn is_killed_in<T>(&self, work: impl Future<Output = T>, point: usize) -> bool {
        self.ticking.requests.store(0, Ordering::SeqCst);
        self.ticking.dies_at.store(point, Ordering::SeqCst);
        let long = Duration::from_secs(86_400);
        let killed = tokio::time::timeout(long, work).await.is_err();
        self.ticking.dies_at.store(usize::MAX, Ordering::SeqCst);
        killed
    }

    pub async fn whole_group_runs(&self, release: &str) {
        let runs = self.group.settled().await;
        let others: Vec<_> =
            runs.iter().filter(|(_, runs)| runs.as_deref() != Some(release)).collect();
        assert!(others.is_empty(), "{others:?}");
        assert_eq!(self.pointer(), release);
        assert!(!self.is_locked());
    }

    pub fn pointer(&self) -> String {
        self.store.text("shop/production/current").expect("a pointer").trim().to_owned()
    }

    /// The id of the newest rollout.
    pub fn last_id(&self) -> String {
        let events = self.events.lock().expect("events");
        let begun = events.iter().rev().find_map(|event| match event {
            Event::Begun { id, .. } => Some(id.clone()),
            _ => None,
        });
        begun.expect("a rollout")
    }

    pub fn is_locked(&self) -> bool {
        self.store.text("shop/production/lock").is_some()
    }

    /// How many instances each order was for.
    pub fn order_sizes(&self) -> Vec<usize> {
        self.group.orders().iter().map(|(_, hosts)| hosts.len()).collect()
    }
}
