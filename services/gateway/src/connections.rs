//! The connections of callers: how many there are, how long one may be silent, how they end.

mod head;

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

/// What one connection holds of what has arrived and was not read, of which the headers of a request are part.
const BUFFER: usize = 32 * 1024;
/// How often it is said that no more connections are taken.
const SAY_FULL_EVERY: Duration = Duration::from_secs(60);

/// What bounds the connections that are open.
///
/// Half a request costs its sender nothing, and would hold a connection for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// How long the headers of a request may take, from their first byte; and how long one may not read.
    pub(crate) silence: Duration,
    /// How long nothing at all may come where a request may begin.
    pub(crate) idle: Duration,
    /// How many may be open.
    pub(crate) open: usize,
}

/// Serves connections until `stop` is ready, then lets each finish the request that it is at.
///
/// Dropped, it cuts all of them off.
pub(crate) async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
) {
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().header_read_timeout(limits.idle).max_buf_size(BUFFER);
    let mut services = router.into_make_service_with_connect_info::<SocketAddr>();
    let mut connections = JoinSet::new();
    let (ending, _) = watch::channel(());
    let mut said_full: Option<Instant> = None;
    let mut stop = pin!(stop);
    loop {
        // Those beyond the limit wait where the system keeps them, until one ends.
        let room = connections.len() < limits.open;
        if !room && said_full.is_none_or(|said| said.elapsed() > SAY_FULL_EVERY) {
            tracing::warn!(limit = limits.open, "as many connections are open as may be; further ones wait");
            said_full = Some(Instant::now());
        }
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (stream, peer) = Listener::accept(&mut listener), if room => {
                let Ok(service) = services.call(peer).await;
                let (timer, arrivals) = head::limits(limits.silence);
                let mut http = http.clone();
                http.http1().timer(timer);
                let stream = TokioIo::new(arrivals.of(bounded(stream, limits)));
                let connection = http.serve_connection(stream, TowerToHyperService::new(service)).into_owned();
                let mut end = ending.subscribe();
                connections.spawn(async move {
                    let mut connection = pin!(connection);
                    let served = tokio::select! {
                        served = connection.as_mut() => served,
                        _ = end.changed() => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    };
                    if let Err(error) = served {
                        tracing::debug!(error, %peer, "a connection was ended");
                    }
                });
            }
        }
    }
    drop(listener);
    // Nobody there is as good.
    let _ = ending.send(());
    while connections.join_next().await.is_some() {}
}

/// A connection that ends if what is written to it is not taken.
fn bounded(stream: TcpStream, limits: ConnectionLimits) -> Pin<Box<TimeoutStream<TcpStream>>> {
    // Answers are small; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.silence));
    Box::pin(stream)
}
