//! Attacks on a service, by a client with permission to publish to its subjects.

mod attack;
mod bucket;
mod catalog;
mod error;
mod observer;
mod report;
mod target;
mod wire;

use std::fmt;
use std::io;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::attack::{Attack, Expected};
use self::bucket::Bucket;
pub use self::error::AttackError;
use self::observer::Observer;
pub use self::report::{AttackReport, AttackResult};
use self::target::{CANARY_NUMBER, CANARY_TEXT, NEST_ID, Target};
use self::wire::{Message, RawConnection};
use super::{NatsServer, NatsServerBuilder};
use crate::{NatsConfig, Service};

/// The timeout of all attacks together.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// The timeout of a valid request after an attack.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);
/// The timeout of a required reply.
const REPLY_LIMIT: Duration = Duration::from_secs(2);
/// The wait for late replies of a service that keeps running.
const QUIET: Duration = Duration::from_millis(300);

/// Attacks on one handler of a service: hostile reply subjects, poisoned headers, oversized and malformed input.
///
/// Use it in a test of your own service. It sends more than 200 messages, as a client with permission to publish to
/// the handler's subject could. Client libraries reject most of these messages. After each attack, the service must
/// reply to the valid request. The report has a finding for each attack after which
///
/// - a reply went to something other than an inbox: a KV bucket, the JetStream API, `$SYS`, a handler;
/// - a forged token or an ambiguous envelope was accepted;
/// - the reply was a 500, which is the reply to a panic of the handler;
/// - an error repeated a token, or a value of the wrong type;
/// - the service did not reply to the valid request within 5 s.
///
/// The handler runs with the valid request after each attack, so the request must be repeatable. The suite does not
/// support handlers that reply with a stream. A run takes a few seconds, and at most about a minute on a busy machine.
///
/// ```
/// use nats_rpc::prelude::*;
/// use nats_rpc::testing::{AttackError, AttackSuite, NatsServerError};
///
/// #[message_pattern("greet.{name}")]
/// async fn greet(Param(name): Param<String>) -> String {
///     format!("Hello, {name}!")
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = Service::new("greeter", "1.0.0").handlers(handlers![greet]);
/// match AttackSuite::new("greet.ada", &())?.run(service).await {
///     Ok(report) => report.assert_clean(),
///     // Install nats-server, or name its binary in `NATS_SERVER_BIN`.
///     Err(AttackError::NatsServer(NatsServerError::NotFound { .. })) => {}
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "attacks do nothing before `run`"]
pub struct AttackSuite {
    subject: String,
    payload: String,
    headers: Vec<(String, String)>,
    token: Option<String>,
    server: NatsServerBuilder,
}

impl AttackSuite {
    /// Creates a suite against the handler of `subject`, which must reply to every `payload` with success.
    ///
    /// # Errors
    /// [`AttackError::Payload`] if `payload` cannot be encoded as JSON.
    pub fn new(subject: impl Into<String>, payload: &(impl Serialize + ?Sized)) -> Result<Self, AttackError> {
        let (subject, payload) = (subject.into(), serde_json::to_string(payload)?);
        Ok(Self { subject, payload, headers: Vec::new(), token: None, server: NatsServer::builder() })
    }

    /// Sends the valid request with `token` in the header `authorization`, and attacks with forged ones.
    ///
    /// The service must then reject requests without a token, or with an altered one.
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sends the valid request with a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how [`run`](Self::run) starts nats-server. Default: [`NatsServer::builder`].
    ///
    /// The server must accept clients without credentials: the suite does not test the server's permissions.
    pub fn nats_server(mut self, server: NatsServerBuilder) -> Self {
        self.server = server;
        self
    }

    /// Starts nats-server and `service`, runs the attacks, and stops both.
    ///
    /// # Errors
    /// [`AttackError`] if the attacks cannot run: without nats-server, if the service does not start, or if the
    /// valid request has no successful reply. Findings are in the report.
    pub async fn run(self, service: Service) -> Result<AttackReport, AttackError> {
        let server = self.server.clone().start()?;
        let url = server.url();
        let running = service.start(NatsConfig::new(&url)).await?;
        // Graceful shutdown ends once every reply has reached nats-server.
        let stop = async || {
            let _ = tokio::time::timeout(RECOVERY_LIMIT, running.stop()).await;
        };
        self.attack(&url, stop).await
    }

    /// Attacks a service that already runs, with all its dependencies, such as buckets and other services.
    ///
    /// `url` is that of a nats-server for tests, such as [`NatsServer::url`], which accepts clients without TLS and
    /// without credentials. If JetStream is on, the suite creates the bucket `nats_rpc_attacks` and removes it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_on(self, url: &str) -> Result<AttackReport, AttackError> {
        self.attack(url, async || tokio::time::sleep(QUIET).await).await
    }

    /// Runs the attacks. `settle` returns once the service has published all its replies.
    async fn attack(self, url: &str, settle: impl AsyncFnOnce()) -> Result<AttackReport, AttackError> {
        let give_up = Instant::now() + RUN_LIMIT;
        let address = url.strip_prefix("nats://").unwrap_or(url);
        let mut observer = Observer::start(address, catalog::watched(&self.subject)).await?;
        let max_payload = RawConnection::open(address).await?.max_payload;
        let Self { subject, payload, headers, token, .. } = self;
        let inboxes = AtomicU32::default();
        let mut target = Target { subject, payload, headers, token, speaks_nest: false, max_payload, inboxes };
        prove_control(&mut observer, &target).await?;
        target.speaks_nest = speaks_nest(&mut observer, &target).await?;
        let bucket = Bucket::create(&mut observer).await?;

        let attacks = catalog::attacks(&target, &bucket);
        let mut outcomes = Vec::new();
        let mut alive = true;
        for attack in &attacks {
            let outcome = match alive {
                true if until(give_up).is_zero() => {
                    Outcome::not_run(&observer, "the attacks took longer than a minute")
                }
                true => run_one(attack, address, &mut observer, &target, give_up).await?,
                false => Outcome::not_run(&observer, "the service does not reply any more"),
            };
            alive &= outcome.finding.is_none();
            outcomes.push(outcome);
        }
        for attack in attacks.iter().filter(|attack| attack.expected.is_a_reply()) {
            observer.first_at(attack.expected.subject(), REPLY_LIMIT.min(until(give_up))).await;
        }
        settle().await;
        let changed = bucket.remove(&mut observer).await?;

        let mut results: Vec<_> = (0..attacks.len())
            .map(|index| {
                AttackResult::new(attacks[index].name.clone(), judge(index, &attacks, &outcomes, &observer, &target))
            })
            .collect();
        results.push(AttackResult::new("the KV bucket is as it was before the attacks".to_owned(), changed));
        Ok(AttackReport::new(results))
    }
}

/// Omits headers and payload of the valid request, which may contain secrets.
impl fmt::Debug for AttackSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttackSuite").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The state right after an attack.
struct Outcome {
    /// The reason to stop attacking.
    finding: Option<String>,
    /// `false` if nats-server closed the connection of the attacker.
    accepted: bool,
    /// The number of messages that had arrived before the attack.
    before: usize,
}

impl Outcome {
    fn not_run(observer: &Observer, why: &str) -> Self {
        Self { finding: Some(format!("not run: {why}")), accepted: false, before: observer.count() }
    }
}

fn until(instant: Instant) -> Duration {
    instant.saturating_duration_since(Instant::now())
}

/// Sends the valid request before any attack.
async fn prove_control(observer: &mut Observer, target: &Target) -> Result<(), AttackError> {
    let reply = observer.request(&target.request(), RECOVERY_LIMIT, Message::is_success).await?;
    let reply = match reply {
        Some(reply) if reply.is_success() => return Ok(()),
        Some(reply) => String::from_utf8_lossy(&[&*reply.headers, &*reply.payload].concat()).into_owned(),
        None => format!("none within {RECOVERY_LIMIT:?}"),
    };
    Err(AttackError::Control { subject: target.subject.clone(), reply })
}

/// Returns `true` if the service replies to an envelope of NestJS with one.
async fn speaks_nest(observer: &mut Observer, target: &Target) -> io::Result<bool> {
    let members = format!(r#"{},{},"id":"{NEST_ID}""#, target.pattern_member(), target.data_member());
    let reply = observer.request(&target.envelope(&members), REPLY_LIMIT, |_| true).await?;
    Ok(reply.is_some_and(|reply| reply.is_success() && reply.contains(r#""isDisposed":true"#)))
}

/// Runs one attack, then sends the valid request.
async fn run_one(
    attack: &Attack,
    address: &str,
    observer: &mut Observer,
    target: &Target,
    give_up: Instant,
) -> io::Result<Outcome> {
    let before = observer.count();
    let accepted = RawConnection::open(address).await?.flush(&attack.bytes).await.is_ok();
    let limit = RECOVERY_LIMIT.min(until(give_up));
    let control = observer.request(&target.request(), limit, Message::is_success).await?;
    let finding = match control {
        Some(reply) if reply.is_success() => None,
        Some(_) => Some("the service replies to a valid request with an error afterwards".to_owned()),
        None => Some(format!("the service does not reply to a valid request within {limit:?} afterwards")),
    };
    Ok(Outcome { finding, accepted, before })
}

/// Returns the finding of the attack at `index`, if there is one.
fn judge(
    index: usize,
    attacks: &[Attack],
    outcomes: &[Outcome],
    observer: &Observer,
    target: &Target,
) -> Option<String> {
    let (expected, outcome) = (&attacks[index].expected, &outcomes[index]);
    if let Some(finding) = &outcome.finding {
        return Some(finding.clone());
    }
    // Considers messages until the next attack that would have a reply at the same subject.
    let later = attacks.iter().zip(outcomes).skip(index + 1);
    let next = later.into_iter().find(|(attack, _)| attack.expected.subject() == expected.subject());
    let end = next.map_or(usize::MAX, |(_, outcome)| outcome.before);
    let mut replies = observer.at(expected.subject(), outcome.before..end);
    replies.retain(|reply| !catalog::is_own(reply, target) && !reply.contains(catalog::MARK));
    if let Some(leak) = replies.iter().find_map(|reply| leak(reply, target)) {
        return Some(format!("an error repeats {leak}"));
    }
    let codes: Vec<_> = replies.iter().map(|reply| reply.error_code()).collect();
    match expected {
        Expected::Success(_) if replies.iter().any(|reply| reply.is_success()) => None,
        Expected::Success(_) => Some("there is no successful reply".to_owned()),
        Expected::Rejection(_) if !outcome.accepted => None,
        Expected::Rejection(_) => match codes.first() {
            Some(Some(400..500)) => None,
            Some(Some(code)) => Some(format!("it was not rejected, the reply is an error {code}")),
            Some(None) => Some("it was accepted".to_owned()),
            None => Some("it was not rejected, there is no reply".to_owned()),
        },
        Expected::Survival(_) => {
            codes.contains(&Some(500)).then(|| "the handler failed: the reply is an error 500".to_owned())
        }
        Expected::Silence(_) if replies.is_empty() => None,
        Expected::Silence(subject) => Some(format!("the service published to `{subject}`")),
    }
}

/// Returns the kind of secret that an error repeats.
fn leak(reply: &Message, target: &Target) -> Option<&'static str> {
    reply.error_code()?;
    if target.token.as_deref().is_some_and(|token| reply.contains(token)) {
        return Some("the access token");
    }
    let canaries = [CANARY_TEXT, &CANARY_NUMBER.to_string()];
    canaries.into_iter().any(|canary| reply.contains(canary)).then_some("a value of the request")
}
