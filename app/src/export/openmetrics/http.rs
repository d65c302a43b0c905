//! Metrics over HTTP, for Prometheus to fetch. The one impure part of this module.
//!
//! It runs on a thread of its own, beside the loop that applies ticks; the source has another and waits for
//! nobody. A text is made at most once for a tick and dialect, however many ask.

use super::Metrics;
use super::text::Dialect;
use crate::model::session::Session;
use crate::model::tick::Tick;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// The port where none is named.
pub const PORT: u16 = 19972;
/// Where metrics are.
pub const PATH: &str = "/metrics";
/// Connections at a time; more wait until one ends.
const CONNECTIONS: usize = 16;
/// How long a request's head may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// How long a connection lives; a client opens another.
const LIFE: Duration = Duration::from_secs(600);
/// How long the answer that is under way then may take.
const GRACE: Duration = Duration::from_secs(30);
/// How long to wait where the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Metrics, and the text that was made of them last.
#[derive(Clone, Debug)]
pub struct Page(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    texts: [Option<Bytes>; 2],
}

impl Page {
    /// Of these metrics.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Mutex::new(Inner { metrics, texts: [None, None] })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked did so between two whole states.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a tick; of one VM alone, where one is named.
    pub fn tick(&self, mut tick: Tick, only: Option<&str>) {
        let mut inner = self.lock();
        if let Some(name) = only {
            inner.metrics.world().who.only(name, &mut tick);
        }
        inner.metrics.apply(&tick);
        inner.texts = [None, None];
    }

    /// Something in the session changed.
    pub fn session(&self, session: Session) {
        let mut inner = self.lock();
        inner.metrics.session(session);
        inner.texts = [None, None];
    }

    /// The text, as of the last tick.
    pub fn text(&self, dialect: Dialect) -> Bytes {
        let mut inner = self.lock();
        let Inner { metrics, texts: [open, old] } = &mut *inner;
        let text = match dialect {
            Dialect::OpenMetrics => open,
            Dialect::Prometheus => old,
        };
        text.get_or_insert_with(|| metrics.render(dialect).into()).clone()
    }
}

/// Where to listen: an address of this host, a port, or both. The address is loopback unless another is named.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok(SocketAddr::new(loopback, port));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = if port.is_empty() { Ok(PORT) } else { port.parse::<u16>() };
    match (host, port) {
        ("localhost", Ok(port)) => Ok(SocketAddr::new(loopback, port)),
        _ => Err("an address with or without a port is expected: 127.0.0.1:19972, [::1]:19972, \
                  0.0.0.0, localhost, or a port alone"
            .to_owned()),
    }
}

/// An open port.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    runtime: Runtime,
    address: SocketAddr,
}

impl Listener {
    /// Opens the port. The error is a sentence.
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("the HTTP server cannot be started: {error}"))?;
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(|error| refused(address, &error))?;
        let address = listener.local_addr().unwrap_or(address);
        Ok(Self { listener, runtime, address })
    }

    /// Where it is, with the port that the system chose if it did.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers whoever asks, on a thread of its own that ends with the program.
    pub fn serve(self, page: Page) -> Result<(), String> {
        let Self { listener, runtime, .. } = self;
        std::thread::Builder::new()
            .name("kvmscope-http".to_owned())
            .spawn(move || runtime.block_on(serve(listener, page)))
            .map(|_| ())
            .map_err(|error| format!("no thread could be started: {error}"))
    }
}

fn refused(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "{address} is in use by another program; name another port with --listen {}",
            SocketAddr::new(address.ip(), address.port().wrapping_add(1).max(1024))
        ),
        ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this host; `ip address` lists those", address.ip())
        }
        ErrorKind::PermissionDenied => format!(
            "{address} may not be listened on: ports below 1024 need CAP_NET_BIND_SERVICE; name \
             another, as {PORT}"
        ),
        _ => format!("{address} cannot be listened on: {error}"),
    }
}

/// Whether an address can be reached from other hosts.
pub fn is_open(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => {
            !ip.is_loopback() && ip.to_ipv4_mapped().is_none_or(|ip| !ip.is_loopback())
        }
    }
}

/// Answers whoever asks, for ever.
async fn serve(listener: TcpListener, page: Page) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = page.clone();
                tokio::spawn(async move {
                    connection(stream, page).await;
                    drop(place);
                });
            }
            // A client that went away is its own affair; without descriptors the next try fails as well.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, page: Page) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = answer(request.method(), request.uri().path(), accept(&request), &page);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // What goes wrong on a connection concerns the client alone.
    if tokio::time::timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(GRACE, connection).await;
    }
}

/// What the client can read.
fn accept<T>(request: &Request<T>) -> Dialect {
    let lists = request.headers().get_all(ACCEPT);
    let is_open = |list: &HeaderValue| {
        list.to_str().is_ok_and(|list| list.contains("application/openmetrics-text"))
    };
    if lists.iter().any(is_open) { Dialect::OpenMetrics } else { Dialect::Prometheus }
}

fn answer(method: &Method, path: &str, dialect: Dialect, page: &Page) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        typed(response, "text/plain; charset=utf-8")
    };
    if ![Method::GET, Method::HEAD].contains(method) {
        let mut refused =
            plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        PATH => typed(Response::new(Full::new(page.text(dialect))), dialect.content_type()),
        "/" => plain(StatusCode::OK, "kvmscope: metrics are at /metrics\n"),
        _ => plain(StatusCode::NOT_FOUND, "There is nothing here; metrics are at /metrics\n"),
    }
}

fn typed(mut response: Response<Full<Bytes>>, kind: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
