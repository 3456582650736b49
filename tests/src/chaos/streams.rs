//! Streams during connection loss, death of nats-server and replacement of services: none may end silently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{Stream, stream};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, Limits, NatsConfig, ServiceHandle};

use super::Options;
use super::report::Row;
use super::stage::{grouped, runtime, soon, until};
use crate::proxy::{Proxy, Which};

/// Number of concurrent streams.
const IN_FLIGHT: usize = 32;
/// Number of items per stream.
const ITEMS: u64 = 400;
/// Maximum time of a stream; a caller that waits longer has been abandoned.
const LIMIT: Duration = Duration::from_secs(10);
/// Idle timeout of a stream at the service, and time that a shutdown waits for streams.
const IDLE: Duration = Duration::from_secs(2);

/// The streams that handlers have not dropped yet.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicI64>);

struct Held(Alive);

impl Held {
    fn new(alive: Alive) -> Self {
        alive.0.fetch_add(1, Ordering::SeqCst);
        Self(alive)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts to `last`, with pauses in which a fault can occur.
#[message_pattern("streams.count")]
async fn count(
    State(alive): State<Alive>,
    Payload(last): Payload<u64>,
) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    Streaming::new(stream::unfold((1, Held::new(alive)), move |(number, held)| async move {
        if number > last {
            return None;
        }
        if number.is_multiple_of(20) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Some((Ok(number), (number + 1, held)))
    }))
}

#[derive(Clone, Copy)]
enum Fault {
    CutCallers,
    CutServices,
    KillServer,
    DropService,
    StopService,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::CutCallers => "callers' connections are cut",
            Self::CutServices => "services' connections are cut",
            Self::KillServer => "nats-server is killed, and back",
            Self::DropService => "services vanish, and others come",
            Self::StopService => "services stop, and others come",
        }
    }
}

pub(super) fn run(options: Options) -> Vec<Row> {
    let faults = [Fault::CutCallers, Fault::CutServices, Fault::KillServer, Fault::DropService, Fault::StopService];
    let runtime = runtime(2);
    faults.into_iter().map(|fault| runtime.block_on(try_fault(fault, options))).collect()
}

/// Outcomes of streams.
#[derive(Default)]
struct Ends {
    complete: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    /// Ended without an error, and without all items.
    silent: AtomicU64,
    /// Received an item out of order.
    wrong: AtomicU64,
    /// Did not end.
    hung: AtomicU64,
}

async fn try_fault(fault: Fault, options: Options) -> Row {
    let mut server = crate::server_with(|builder| builder.jetstream(false));
    let proxy = Proxy::to(server.port()).start().await.expect("a proxy");
    let (alive, ends, over) = (Alive::default(), Arc::new(Ends::default()), Arc::new(AtomicBool::new(false)));
    let url_of = |through: bool| if through { proxy.url() } else { server.url().to_owned() };
    let service_url = url_of(matches!(fault, Fault::CutServices));
    let mut services = vec![serve(&service_url, &alive).await, serve(&service_url, &alive).await];
    let client = connect(&url_of(matches!(fault, Fault::CutCallers))).await;
    let callers: Vec<_> =
        (0..IN_FLIGHT).map(|_| tokio::spawn(call_on(client.clone(), ends.clone(), over.clone()))).collect();
    let mut random = options.random();
    let end = Instant::now() + options.pick(Duration::from_secs(12), Duration::from_millis(1_500));
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.u64(100..600))).await;
        match fault {
            Fault::CutCallers | Fault::CutServices => proxy.cut(Which::All).await,
            Fault::KillServer => restart(&mut server).await,
            Fault::DropService => drop(services.remove(0)),
            Fault::StopService => drop(tokio::spawn(services.remove(0).stop())),
        }
        if services.len() < 2 {
            services.push(serve(&service_url, &alive).await);
        }
    }
    // Some streams must complete without a fault first.
    let before = ends.complete.load(Ordering::SeqCst);
    let _ = until(LIMIT, async || ends.complete.load(Ordering::SeqCst) > before).await;
    over.store(true, Ordering::SeqCst);
    soon(join_all(callers)).await;
    let row = judge(fault, &ends, &alive, options).await;
    for service in services {
        soon(service.stop()).await;
    }
    row
}

async fn judge(fault: Fault, ends: &Ends, alive: &Alive, options: Options) -> Row {
    // The service ends leftover streams as soon as it learns that the caller is gone, or after its own timeout.
    let left_for = IDLE + LIMIT + options.grace();
    let gone = until(left_for, async || alive.0.load(Ordering::SeqCst) == 0).await;
    let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
    let [complete, failed, refused] = [&ends.complete, &ends.failed, &ends.refused].map(get);
    let [silent, wrong, hung] = [&ends.silent, &ends.wrong, &ends.hung].map(get);
    let counts = format!(
        "{} complete, {} with an error, {} not begun, {silent} in silence, {wrong} out of order, {hung} never, {} left",
        grouped(complete),
        grouped(failed),
        grouped(refused),
        alive.0.load(Ordering::SeqCst),
    );
    // A graceful shutdown that waits for its streams ends none with an error.
    let hit = failed > 0 || matches!(fault, Fault::StopService);
    let passed = complete > 0 && hit && silent + wrong + hung == 0 && gone.is_some();
    Row::new(fault.name(), "some complete, some with an error; 0 of all others", passed, counts)
}

async fn serve(url: &str, alive: &Alive) -> ServiceHandle {
    let limits = Limits { stream_idle_timeout: IDLE, shutdown_timeout: IDLE, timeout: LIMIT, ..Limits::default() };
    let service = || Service::new("streams", "1.0.0").handlers(handlers![count]).provide(alive.clone()).limits(limits);
    // The connection may be cut while a service starts on it.
    let started = async {
        loop {
            match service().start(NatsConfig::new(url)).await {
                Ok(running) => return running,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    soon(started).await
}

async fn connect(url: &str) -> Client {
    let client = soon(Client::connect(&NatsConfig::new(url))).await.expect("a connection");
    client.stream_timeout(LIMIT).item_timeout(LIMIT)
}

async fn restart(server: &mut NatsServer) {
    tokio::task::block_in_place(|| server.kill());
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::task::block_in_place(|| server.restart()).expect("the server comes back");
    // Time for streams to begin again.
    tokio::time::sleep(Duration::from_millis(400)).await;
}

/// Consumes one stream after the other until `over` is set.
async fn call_on(client: Client, ends: Arc<Ends>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        // Twice the time that its own timeouts allow.
        let end = tokio::time::timeout(LIMIT * 2, take(&client, &ends)).await.unwrap_or(&ends.hung);
        end.fetch_add(1, Ordering::SeqCst);
        if std::ptr::eq(end, &ends.refused) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn take<'a>(client: &Client, ends: &'a Ends) -> &'a AtomicU64 {
    let Ok(mut items) = client.stream::<u64>("streams.count", &ITEMS).await else { return &ends.refused };
    let mut next = 1;
    while let Some(item) = items.next().await {
        match item {
            Ok(number) if number == next => next += 1,
            Ok(_) => return &ends.wrong,
            Err(_) => return &ends.failed,
        }
    }
    if next == ITEMS + 1 { &ends.complete } else { &ends.silent }
}
