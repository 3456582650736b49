//! What the nats-server refuses with `services/nats.conf`, what gets past it, and what nobody may find in a log.

use std::time::Duration;

use async_nats::jetstream::{self, consumer, kv};
use async_nats::{ConnectOptions, HeaderMap};
use futures::StreamExt;
use nats_rpc::{CallError, Client, ConnectError, NatsConfig};
use nats_rpc_jwt::JwtConfig;
use nats_rpc_tests::certificates::Authority;
use nats_rpc_tests::server_with;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::capture;
use super::forge::{HEADER, NOW, claims, signed_with_secret};
use super::guarded::{Guarded, Hand, secret};
use super::harness::{self, Outcome, Verdict, cases};
use crate::deployed::Deployed;
use crate::permissions::intruder::Intruder;
use crate::support::{PATIENCE, soon};

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "nats-01" => a_client_on_internal_subjects,
        "nats-02" => a_service_that_writes_buckets_of_auth,
        "nats-04" => an_eavesdropper_on_inboxes,
        "nats-05" => a_spoofed_answer,
        "nats-07" => connections_without_sound_tls,
        "nats-08" => a_push_consumer_as_deputy,
        "own-nats-mirror" => a_stream_that_publishes_as_anybody,
    ];
    let mut outcomes = harness::run(World::start, cases).await;
    if harness::is_wanted("nats-10") {
        outcomes.push(Outcome::of("nats-10", Verdict::NotApplicable("no auth callout")));
    }
    outcomes
}

/// `nats-11`: nothing secret was logged, at whatever level. To be asked when all other cases have run, and only
/// then.
pub(super) async fn log_leakage() -> Vec<Outcome> {
    if harness::wanted().is_some() {
        return Vec::new();
    }
    harness::run(async || (), cases!["nats-11" => nothing_secret_is_logged]).await
}

/// The services as they are deployed, each a user of its own.
struct World {
    system: Deployed,
    token: String,
}

impl World {
    async fn start() -> Self {
        let system = Deployed::start().await;
        let user = system.sign_up("nats@example.com").await;
        let token = |name: &str| capture::secret(user[name].as_str().unwrap().to_owned());
        token("refreshToken");
        Self { token: token("accessToken"), system }
    }

    async fn intruder(&self, user: &str) -> Intruder {
        Intruder::connect(&self.system.secured, user).await
    }

    /// A client of ours as `user`, whose patience is far longer than a refusal may take.
    async fn client(&self, user: &str) -> Client {
        let client = soon(Client::connect(&self.system.secured.config(user))).await.unwrap();
        client.timeout(PATIENCE * 10).bearer(&self.token)
    }
}

/// The request itself only goes unanswered; the client has to bring the server's word to it.
async fn a_client_on_internal_subjects(world: &World) {
    let client = world.client("client").await;
    for internal in ["user.created", "auth.audit.logged_in", "auth.internal", "users.internal", "gw.get_user_profile"] {
        let error = soon(client.send::<Value>(internal, &json!({}))).await.unwrap_err();
        assert!(matches!(error, CallError::Forbidden { .. }), "{internal}: {error}");
        harness::refused();
    }
    let profile: Value = soon(client.send("get_user_profile", &json!({}))).await.unwrap();
    assert_eq!(profile["email"], "nats@example.com");
    harness::passed();
}

async fn a_service_that_writes_buckets_of_auth(world: &World) {
    let own = async |user: &str, bucket: &str| {
        let jetstream = jetstream::new(world.intruder(user).await.nats);
        let acknowledged = soon(jetstream.publish(format!("$KV.{bucket}.own"), "{}".into())).await.unwrap();
        soon(acknowledged.into_future()).await.unwrap();
        harness::passed();
    };
    for user in ["users", "gateway", "client", "monitor", "deploy"] {
        let mut intruder = world.intruder(user).await;
        for bucket in
            ["auth_sess", "auth_users", "auth_rev", "auth_jwks", "auth_services", "auth_backoff", "auth_reset"]
        {
            intruder.may_not_publish(&format!("$KV.{bucket}.own")).await;
            harness::refused();
        }
    }
    own("users", "users").await;
    own("auth", "auth_sess").await;
}

async fn an_eavesdropper_on_inboxes(world: &World) {
    for (user, other) in [("users", "gateway"), ("gateway", "auth"), ("client", "gateway"), ("auth", "users")] {
        let mut intruder = world.intruder(user).await;
        for inbox in ["_INBOX.>".to_owned(), format!("_INBOX_{other}.>"), format!("_INBOX_{other}.*"), ">".to_owned()] {
            intruder.may_not_subscribe(&inbox, None).await;
            harness::refused();
        }
        let mut own = intruder.nats.subscribe(format!("_INBOX_{user}.>")).await.unwrap();
        intruder.nats.publish(format!("_INBOX_{user}.a"), "".into()).await.unwrap();
        soon(own.next()).await.unwrap();
        harness::passed();
    }
}

async fn a_spoofed_answer(world: &World) {
    let asker = world.intruder("client").await;
    let mut answers = asker.nats.subscribe("_INBOX_client.guessed").await.unwrap();
    soon(asker.nats.flush()).await.unwrap();
    for user in ["users", "auth", "gateway", "monitor"] {
        let mut intruder = world.intruder(user).await;
        for inbox in ["_INBOX_client.guessed", "_INBOX.guessed", "_R_.guessed"] {
            intruder.may_not_publish(inbox).await;
            harness::refused();
        }
    }
    // The control: the same inbox, by who was asked. Nothing came before it.
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {}", world.token));
    let (subject, inbox) = ("get_user_profile", "_INBOX_client.guessed");
    asker.nats.publish_with_reply_and_headers(subject, inbox, headers, "{}".into()).await.unwrap();
    let answer = soon(answers.next()).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.payload).contains("nats@example.com"), "{answer:?}");
    harness::passed();
}

async fn connections_without_sound_tls(world: &World) {
    let secured = &world.system.secured;
    // In plain text: the server has said that it requires TLS, and hangs up on who goes on without.
    let mut plain = soon(TcpStream::connect(("127.0.0.1", secured.server.port()))).await.unwrap();
    plain.write_all(b"CONNECT {\"verbose\":false,\"tls_required\":false}\r\nPING\r\n").await.unwrap();
    let mut heard = Vec::new();
    // However it ends, by an end of stream or a reset, it ends without a PONG.
    let _ = soon(plain.read_to_end(&mut heard)).await;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard.starts_with("INFO ") && !heard.contains("PONG"), "{heard}");
    harness::refused();

    // A client goes on trying until then; a certificate does not get better.
    let (other, short) = (Authority::new(), Duration::from_millis(700));
    let stranger = secured.config("client").root_certificate(other.path());
    let of_the_system = NatsConfig::new(secured.server.url()).nkey(secured.seed("client"));
    for config in [stranger, of_the_system] {
        let config = config.connect_timeout(short);
        refuses_certificate(soon(Client::connect(&config)).await);
    }
    // A certificate whose time is over, of an authority that is known.
    let expired = other.expired_server();
    let tls = |certificate: &nats_rpc_tests::certificates::Certificate| {
        format!("tls {{ cert_file: {:?}, key_file: {:?} }}", certificate.certificate, certificate.key)
    };
    let server = server_with(|builder| builder.jetstream(false).config(tls(&expired)));
    let config = |url: String| NatsConfig::new(url).root_certificate(other.path());
    refuses_certificate(soon(Client::connect(&config(server.url()).connect_timeout(short))).await);
    let server = server_with(|builder| builder.jetstream(false).config(tls(&other.server())));
    assert!(soon(Client::connect(&config(server.url()))).await.is_ok());
    harness::passed();
    assert!(soon(Client::connect(&secured.config("client"))).await.is_ok());
    harness::passed();
}

#[track_caller]
fn refuses_certificate(connected: Result<Client, ConnectError>) {
    let text = format!("{:?}", connected.expect_err("the certificate is believed"));
    assert!(text.to_lowercase().contains("certificate"), "{text}");
    harness::refused();
}

/// A server on which an attacker may write a bucket of its own and read it, and nothing more.
const DEPUTY: &str = r#"
    authorization { users: [
        { user: service, password: service }
        { user: attacker, password: attacker, permissions: {
            publish: ["$KV.own.>", "$JS.API.STREAM.INFO.KV_own", "$JS.API.CONSUMER.CREATE.KV_own.>"]
            subscribe: ["_INBOX.>"]
        } }
        { user: deployer, password: deployer, permissions: {
            publish: ["$JS.API.>", "own.>"]
            subscribe: ["_INBOX.>"]
        } }
    ] }
"#;

/// The server delivers it past the publisher's permissions, with payload and headers of the attacker's: what
/// tells it from a request is the subject that it was stored under.
async fn a_push_consumer_as_deputy(_: &World) {
    let server = server_with(|builder| builder.config(DEPUTY));
    let user = |name: &str| ConnectOptions::with_user_and_password(name.to_owned(), name.to_owned());
    let service = NatsConfig::new(server.url()).user("service", "service");
    let config = JwtConfig::hs256(secret()).clock(Hand::at(NOW).clock());
    let guarded = Guarded::start_as(service, "victim", config).await;
    let owner = soon(user("service").connect(server.url())).await.unwrap();
    let bucket = kv::Config { bucket: "own".to_owned(), ..kv::Config::default() };
    soon(jetstream::new(owner).create_key_value(bucket)).await.unwrap();

    let mut attacker = Intruder::with(user("attacker"), &server.url()).await;
    let victim = guarded.subject("whoami");
    attacker.may_not_publish(&victim).await;
    harness::refused();
    let jetstream = jetstream::new(attacker.nats.clone());
    let mut headers = HeaderMap::new();
    let token = signed_with_secret(HEADER, &claims().to_string());
    headers.insert("authorization", format!("Bearer {}", capture::secret(token.as_str())));
    let stored = jetstream.publish_with_headers("$KV.own.evil", headers, "{}".into());
    soon(soon(stored).await.unwrap().into_future()).await.unwrap();
    let consumer = consumer::push::Config {
        name: Some("deputy".to_owned()),
        deliver_subject: victim.clone(),
        // As the service subscribes: a consumer for another group would find nobody.
        deliver_group: Some("victim".to_owned()),
        ..consumer::push::Config::default()
    };
    let stream = soon(jetstream.get_stream("KV_own")).await.unwrap();
    soon(stream.create_consumer(consumer)).await.unwrap();

    // It arrives, and is dropped before any guard has looked at its token, which is a good one.
    soon(async {
        while guarded.foreign() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(guarded.calls(), 0);
    harness::refused();
    // The same token on the subject itself.
    guarded.takes(&token).await;
}

/// Who may create streams can publish to any subject, with any header but that which tells of it. The permissions
/// give that to nobody who runs, and a handler drops what comes so.
async fn a_stream_that_publishes_as_anybody(world: &World) {
    for user in ["auth", "users", "gateway", "client", "monitor"] {
        let mut intruder = world.intruder(user).await;
        for verb in ["CREATE", "UPDATE", "DELETE", "RESTORE"] {
            intruder.may_not_publish(&format!("$JS.API.STREAM.{verb}.evil")).await;
            harness::refused();
        }
    }
    // Where somebody may, what comes is dropped, whatever it proves: its sender may not send it.
    let server = server_with(|builder| builder.config(DEPUTY));
    let login = ConnectOptions::with_user_and_password("deployer".to_owned(), "deployer".to_owned());
    let service = NatsConfig::new(server.url()).user("service", "service");
    let config = JwtConfig::hs256(secret()).clock(Hand::at(NOW).clock());
    let guarded = Guarded::start_as(service, "victim", config).await;
    let mut deployer = Intruder::with(login, &server.url()).await;
    deployer.may_not_publish(&guarded.subject("whoami")).await;
    harness::refused();
    let jetstream = jetstream::new(deployer.nats.clone());
    let stream = jetstream::stream::Config {
        name: "evil".to_owned(),
        subjects: vec!["own.a".to_owned()],
        republish: Some(jetstream::stream::Republish {
            source: "own.a".to_owned(),
            destination: guarded.subject("whoami"),
            headers_only: false,
        }),
        ..jetstream::stream::Config::default()
    };
    soon(jetstream.create_stream(stream)).await.unwrap();
    let mut forged = HeaderMap::new();
    forged.insert("Nats-Request-Info", r#"{"acc":"gateway"}"#);
    forged.insert("x-user", r#"{"sub":"u7"}"#);
    let genuine = signed_with_secret(HEADER, &claims().to_string());
    let mut stolen = HeaderMap::new();
    stolen.insert("authorization", format!("Bearer {genuine}"));
    for (number, headers) in [(1, forged), (2, stolen)] {
        let stored = jetstream.publish_with_headers("own.a", headers, r#"{"user":{"sub":"u7"}}"#.into());
        soon(soon(stored).await.unwrap().into_future()).await.unwrap();
        soon(async {
            while guarded.foreign() < number {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(guarded.calls(), 0, "a handler believed a republished message");
        harness::refused();
    }
    guarded.takes(&genuine).await;
    assert_eq!(guarded.calls(), 1);
}

async fn nothing_secret_is_logged(_: &()) {
    let log = capture::log();
    // The control: that the log was caught, down to the reasons that no caller learns.
    for reason in ["signature does not verify", "not the key's algorithm", "a stored password hash is malformed"] {
        assert!(log.contains(reason), "{reason:?} is not in the log of {} bytes", log.len());
        harness::passed();
    }
    // How a JWT, a refresh token, a password hash and a seed of NATS begin, whosesoever they are.
    for beginning in ["eyJ", "nrt1.", "$2a$", "$2b$", "$argon2", "SUA"] {
        let found = log.find(beginning).map(|at| &log[at.saturating_sub(200)..(at + 50).min(log.len())]);
        assert_eq!(found, None, "{beginning:?} is in the log");
        harness::refused();
    }
    for secret in capture::secrets() {
        assert!(!log.contains(&secret), "{secret:?} is in the log");
        harness::refused();
    }
}
