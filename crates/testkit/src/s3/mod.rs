//! A small S3 for the tests: real signature checks, objects in memory, and faults on demand.
//!
//! It runs on a thread and a runtime of its own, so tests may block on it, and on a listener in
//! any network namespace: on loopback or on a bridge.

mod backend;
mod fault;
mod objects;

pub use fault::{Fault, GIVEN};
pub use objects::Stored;

use backend::{Auth, Backend, Keys};
use fault::Faults;
use hyper::body::Incoming;
use hyper::header::{IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use objects::Objects;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// A running server; dropping it stops it.
pub struct S3Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// One request, as far as tests need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The HTTP method.
    pub method: String,
    /// `bucket/key`.
    pub path: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `If-Match`.
    pub if_match: Option<String>,
    /// The header `If-None-Match`.
    pub if_none_match: Option<String>,
    /// The header `If-Unmodified-Since`.
    pub if_unmodified_since: Option<String>,
    /// The query string, without `?`.
    pub query: Option<String>,
    /// The status of the response; none before it.
    pub status: Option<u16>,
}

struct Shared {
    objects: Arc<Objects>,
    keys: Arc<Keys>,
    faults: Faults,
    asked: Mutex<Vec<Asked>>,
    service: S3Service,
}

impl S3Server {
    /// Listens at an address such as `127.0.0.1:0`.
    pub fn start(address: &str, access_key: &str, secret_key: &str) -> S3Server {
        let listener = TcpListener::bind(address).expect("an address to listen at");
        Self::from_listener(listener, access_key, secret_key)
    }

    /// Serves on a listener, which may be in another network namespace.
    pub fn from_listener(listener: TcpListener, access_key: &str, secret_key: &str) -> S3Server {
        let keys = Keys::default();
        keys.accept(access_key, secret_key);
        Self::with_objects(listener, keys.into(), Arc::default())
    }

    fn with_objects(listener: TcpListener, keys: Arc<Keys>, objects: Arc<Objects>) -> S3Server {
        let address = listener.local_addr().expect("a bound listener");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let mut service = S3ServiceBuilder::new(Backend(objects.clone()));
        service.set_auth(Auth(keys.clone()));
        let (faults, asked) = (Faults::default(), Mutex::default());
        let shared = Arc::new(Shared { objects, keys, faults, asked, service: service.build() });
        let (stop, stopped) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
        });
        S3Server { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Stops it with all connections; the returned function restarts it with the same state.
    pub fn stop(mut self) -> impl FnOnce(TcpListener) -> S3Server + Send {
        self.shut_down();
        let (keys, objects) = (self.shared.keys.clone(), self.shared.objects.clone());
        move |listener| Self::with_objects(listener, keys, objects)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stores an object, and creates its bucket, with the default checksum of S3: a CRC64NVME
    /// of the whole object.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) {
        self.put_with_checksum(bucket, key, bytes, Stored::Right("CRC64NVME"));
    }

    /// Stores an object with this checksum, and creates its bucket.
    pub fn put_with_checksum(
        &self,
        bucket: &str,
        key: &str,
        bytes: impl Into<Vec<u8>>,
        checksum: Stored,
    ) {
        self.shared.objects.put(bucket, key, bytes.into(), checksum);
    }

    /// Deletes an object with all its versions.
    pub fn delete(&self, bucket: &str, key: &str) {
        self.shared.objects.delete(bucket, key);
    }

    /// Makes every object of the bucket keep its versions from now on.
    pub fn keep_versions(&self, bucket: &str) {
        self.shared.objects.keep_versions(bucket);
    }

    /// Stores objects without ETags from now on, as some gateways do.
    pub fn keep_no_etags(&self) {
        self.shared.objects.keep_no_etags();
    }

    /// Stores objects as multipart uploads from now on, without the type of their checksums.
    pub fn tell_no_types(&self) {
        self.shared.objects.tell_no_types();
    }

    /// Responds with 403 for missing objects, as S3 does to callers without the right to list.
    pub fn deny_listing(&self) {
        self.shared.objects.deny_listing();
    }

    /// Accepts another pair of keys as well.
    pub fn accept(&self, access_key: &str, secret_key: &str) {
        self.shared.keys.accept(access_key, secret_key);
    }

    /// Reports an expired token for requests with this key from now on.
    pub fn expire(&self, access_key: &str) {
        self.shared.keys.expire(access_key);
    }

    /// Makes the next `times` requests of this method (`*` is any) fail, for a `bucket/key`
    /// that contains `key`.
    pub fn fault(&self, method: &str, key: &str, times: usize, fault: Fault) {
        self.shared.faults.add(method, key, times, fault);
    }

    /// All requests so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no panic in the server").clone()
    }

    fn shut_down(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(shared.clone(), request));
            // A connection that a fault cuts ends with an error, as intended.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), answer).await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<s3s::Body>, s3s::HttpError> {
    let asked = Asked::of(&request);
    let number = {
        let mut all = shared.asked.lock().expect("no panic in the server");
        all.push(asked.clone());
        all.len() - 1
    };
    let response = answer_to(&shared, asked, request).await?;
    let mut all = shared.asked.lock().expect("no panic in the server");
    all[number].status = Some(response.status().as_u16());
    Ok(response)
}

async fn answer_to(
    shared: &Shared,
    asked: Asked,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<s3s::Body>, s3s::HttpError> {
    let fault = shared.faults.take(&asked);
    if let Some(Fault::Replaced(bytes)) = &fault {
        let (bucket, key) = asked.path.split_once('/').unwrap_or_default();
        shared.objects.put(bucket, key, bytes.clone(), Stored::Right("CRC64NVME"));
    }
    if let Some(refusal) = fault.as_ref().and_then(|fault| fault.refusal(&asked)) {
        return Ok(refusal);
    }
    if matches!(fault, Some(Fault::IgnoreRange)) {
        return Ok(fault::whole(&shared.objects, &asked));
    }
    let response = shared.service.call(request.map(s3s::Body::from)).await?;
    Ok(match fault {
        Some(fault) => fault.cut(response).await,
        None => response,
    })
}

impl Asked {
    fn of(request: &hyper::Request<Incoming>) -> Asked {
        let header = |name| request.headers().get(name)?.to_str().ok().map(str::to_owned);
        Asked {
            method: request.method().to_string(),
            path: request.uri().path().trim_start_matches('/').to_owned(),
            range: header(RANGE),
            if_match: header(IF_MATCH),
            if_none_match: header(IF_NONE_MATCH),
            if_unmodified_since: header(IF_UNMODIFIED_SINCE),
            query: request.uri().query().map(str::to_owned),
            status: None,
        }
    }
}
