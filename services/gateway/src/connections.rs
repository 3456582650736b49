//! The connections of callers: their number, their timeouts, and their end.

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

/// Size of a connection's buffer for bytes that have arrived and are not read yet; the headers of a request must fit.
const BUFFER: usize = 32 * 1024;
/// Interval between log lines that say that the connection limit is reached.
const SAY_FULL_EVERY: Duration = Duration::from_secs(60);

/// Limits of open connections.
///
/// An incomplete request costs its sender nothing, and without limits would hold a connection for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Timeout for the headers of a request, from their first byte, and for a client that does not read.
    pub(crate) silence: Duration,
    /// Idle timeout where a request may begin.
    pub(crate) idle: Duration,
    /// Maximum number of open connections.
    pub(crate) open: usize,
}

/// Serves connections until `stop` is ready, then lets each finish its current request.
///
/// Dropping the future cuts all connections off.
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
        // Connections beyond the limit wait in the backlog of the operating system until one closes.
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
    // A send without receivers is fine: no connection is open then.
    let _ = ending.send(());
    while connections.join_next().await.is_some() {}
}

/// Returns a connection that ends if the client does not read the bytes written to it.
fn bounded(stream: TcpStream, limits: ConnectionLimits) -> Pin<Box<TimeoutStream<TcpStream>>> {
    // Responses are small; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.silence));
    Box::pin(stream)
}
