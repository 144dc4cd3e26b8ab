//! The documents of one rollout while the store does not respond: in memory, for this ship alone.

use super::{Condition, Listing, Object, Objects, Written};
use async_trait::async_trait;
use jiff::Timestamp;
use model::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Small documents under the conditions of a store, which is never asked.
pub struct Aside {
    /// The store that does not respond; it only names its objects.
    store: Arc<dyn Objects>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    writes: u64,
}

impl Aside {
    pub fn new(store: Arc<dyn Objects>) -> Aside {
        Aside { store, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, what: &str, key: &str) -> Error {
        let error = Error::source(format!("{what} {}", self.url(key)));
        error.because("the store does not respond").help("repeat the command once it does")
    }
}

#[async_trait]
impl Objects for Aside {
    async fn responds(&self, _key: &str) -> Result<()> {
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Object>> {
        Ok(self.lock().objects.get(key).cloned())
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Written> {
        let mut inner = self.lock();
        let now = inner.objects.get(key).map(|object| object.etag.as_str());
        let holds = match &condition {
            Condition::Any => true,
            Condition::Absent => now.is_none(),
            Condition::Unchanged(etag) => now == Some(etag),
        };
        if !holds {
            return Ok(Written::Conflict);
        }
        inner.writes += 1;
        let etag = inner.writes.to_string();
        inner.objects.insert(key.to_owned(), Object { bytes, etag: etag.clone() });
        Ok(Written::Done(etag))
    }

    async fn upload(&self, key: &str, _file: &Path) -> Result<()> {
        Err(self.unavailable("upload", key))
    }

    async fn copy(&self, from: &str, _to: &str) -> Result<()> {
        Err(self.unavailable("copy", from))
    }

    async fn delete(&self, key: &str, etag: &str) -> Result<Written> {
        let mut inner = self.lock();
        if inner.objects.get(key).is_none_or(|object| object.etag != etag) {
            return Ok(Written::Conflict);
        }
        inner.objects.remove(key);
        Ok(Written::Done(String::new()))
    }

    async fn list(&self, prefix: &str, most: usize) -> Result<Listing> {
        let inner = self.lock();
        let below = inner.objects.keys().filter_map(|key| key.strip_prefix(prefix));
        let objects = below.filter(|name| !name.contains('/')).take(most);
        Ok(Listing { directories: Vec::new(), objects: objects.map(str::to_owned).collect() })
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(Timestamp::now())
    }

    fn url(&self, key: &str) -> String {
        self.store.url(key)
    }
}
