//! Log-in: its cost, the timing of unknown and known accounts, and the effect of a flood on other requests.

use std::error::Error;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::future::join_all;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, Code, Connection, NatsConfig};
use nats_rpc_auth::{Password, PasswordConfig, PasswordHasher};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Latency, micros, process};
use crate::child::cpu_of;
use crate::stats::median;

const PASSWORD: &str = "correct horse battery";
/// Number of log-ins of each kind, taken alternately.
const PAIRS: usize = 150;
/// Number of rounds, alternately without and with a flood, so that both see the same machine.
const ROUNDS: usize = 4;
/// Number of other requests in a round with the flood, and in one without it.
const OTHERS: usize = 500;
const OTHERS_EVERY: Duration = Duration::from_millis(4);
/// Interval of log-ins, many times the hashing capacity: a burst at once would measure only its own queue.
const LOG_IN_EVERY: Duration = Duration::from_micros(2_500);

#[derive(Debug, Serialize)]
pub(super) struct Hashing {
    pub(super) cost: u32,
    pub(super) cpu_ms: f64,
    pub(super) per_second_and_core: f64,
}

/// Measures the CPU time of a log-in, nearly all of which is bcrypt.
pub(super) async fn hashing() -> Result<Vec<Hashing>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for (cost, times) in [(10, 40), (12, 12)] {
        let config = PasswordConfig::default().cost(cost).workers(NonZeroUsize::MIN);
        let passwords = PasswordHasher::new(config)?;
        let hash = passwords.hash(Password::parse(PASSWORD)?).await?;
        let before = cpu_of(std::process::id())?;
        for _ in 0..times {
            passwords.verify(PASSWORD, Some(&hash)).await?;
        }
        let cpu = (cpu_of(std::process::id())? - before).as_secs_f64() / f64::from(times);
        rows.push(Hashing { cost, cpu_ms: cpu * 1_000.0, per_second_and_core: 1.0 / cpu });
    }
    Ok(rows)
}

#[derive(Debug, Serialize)]
pub(super) struct Price {
    pub(super) known: Latency,
    pub(super) unknown: Latency,
    /// Ratio of the medians.
    pub(super) unknown_to_known: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Flood {
    pub(super) asked: usize,
    pub(super) looked_at: usize,
    pub(super) refused: usize,
    pub(super) idle: Latency,
    pub(super) flooded: Latency,
    pub(super) p99_to_idle: f64,
}

pub(super) async fn measure(server: &NatsServer) -> Result<(Price, Flood), Box<dyn Error>> {
    let connection = Connection::open(&NatsConfig::new(server.url())).await?;
    auth::provision(&connection.jetstream(), users::Replicas::ONE).await.map_err(|error| error.to_string())?;
    let service = process::start(server)?;
    let client = Client::new(connection.clone()).timeout(Duration::from_secs(60));
    let price = price(&client).await?;
    let flood = flood(server, &client).await?;
    service.stop()?;
    Ok((price, flood))
}

async fn price(client: &Client) -> Result<Price, Box<dyn Error>> {
    let known = json!({ "email": "known@example.com", "password": PASSWORD });
    client.send::<Value>("auth.signup", &known).await?;
    let counts = client.connection().jetstream().get_stream("KV_auth_backoff").await?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // A failed attempt throttles the next one; here every attempt must be the first.
        counts.purge().await?;
        let mut kinds = [("known@example.com", &mut known), ("nobody@example.com", &mut unknown)];
        if pair % 2 == 1 {
            kinds.reverse();
        }
        for (email, took) in kinds {
            let start = Instant::now();
            expect(client, email, Code::Unauthenticated).await?;
            took.push(micros(start));
        }
    }
    let unknown_to_known = median(&unknown) / median(&known);
    Ok(Price { known: Latency::of(&known), unknown: Latency::of(&unknown), unknown_to_known })
}

async fn expect(client: &Client, email: &str, expected: Code) -> Result<(), Box<dyn Error>> {
    match log_in(client, email).await? {
        code if code == expected => Ok(()),
        code => Err(format!("a log-in was answered {code} where {expected} was expected").into()),
    }
}

async fn log_in(client: &Client, email: &str) -> Result<Code, String> {
    let wrong = json!({ "email": email, "password": "incorrect horse battery" });
    match client.send::<Value>("auth.login", &wrong).await {
        Ok(_) => Err("a wrong password got in".to_owned()),
        Err(error) => error.code().ok_or_else(|| error.to_string()),
    }
}

async fn flood(server: &NatsServer, client: &Client) -> Result<Flood, Box<dyn Error>> {
    let (mut idle, mut flooded) = (Vec::new(), Vec::new());
    let (mut asked, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        idle.extend(Others::start(server).await?.ended().await?);
        let others = Others::start(server).await?;
        let mut every = tokio::time::interval(LOG_IN_EVERY);
        let mut log_ins = Vec::new();
        while !others.have_ended() {
            every.tick().await;
            let (client, email) = (client.clone(), format!("flood-{asked}@example.com"));
            log_ins.push(tokio::spawn(async move { log_in(&client, &email).await }));
            asked += 1;
        }
        flooded.extend(others.ended().await?);
        for code in join_all(log_ins).await {
            // Failed log-ins at otherwise unused accounts: the pool rejects those beyond its capacity.
            refused += usize::from(matches!(code?, Ok(Code::Unavailable)));
        }
    }
    let (idle, flooded) = (Latency::of(&idle), Latency::of(&flooded));
    let p99_to_idle = flooded.p99_us / idle.p99_us;
    Ok(Flood { asked, looked_at: asked - refused, refused, idle, flooded, p99_to_idle })
}

/// Requests that need only a responsive service: refreshes with an invalid token.
///
/// They have a separate thread and connection, so that the sender of the flood does not slow them down.
struct Others(JoinHandle<Result<Vec<f64>, String>>);

impl Others {
    async fn start(server: &NatsServer) -> Result<Self, Box<dyn Error>> {
        let config = NatsConfig::new(server.url());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ready, started) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let client = Client::connect(&config).await.map_err(|error| error.to_string())?;
                let _ = ready.send(());
                others(&client).await
            })
        });
        // A task that fails earlier returns its error at the end.
        let _ = started.await;
        Ok(Self(thread))
    }

    fn have_ended(&self) -> bool {
        self.0.is_finished()
    }

    async fn ended(self) -> Result<Vec<f64>, Box<dyn Error>> {
        let joined = tokio::task::spawn_blocking(|| self.0.join()).await?;
        Ok(joined.map_err(|_| "a thread panicked")??)
    }
}

async fn others(client: &Client) -> Result<Vec<f64>, String> {
    let none = json!({ "refreshToken": "none" });
    let mut took = Vec::with_capacity(OTHERS);
    let mut every = tokio::time::interval(OTHERS_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for _ in 0..OTHERS {
        every.tick().await;
        let start = Instant::now();
        match client.send::<Value>("auth.refresh", &none).await {
            Err(error) if error.code() == Some(Code::Unauthenticated) => took.push(micros(start)),
            other => return Err(format!("a bad refresh token was answered {other:?}")),
        }
    }
    Ok(took)
}
