//! Guessing passwords: per account, per source, and past the gateway.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use nats_rpc::{Connection, RpcError};
use nats_rpc_auth::{Email, LoginThrottle, ThrottleError, ThrottlePolicy};
use nats_rpc_jwt::{CLIENT_IP_HEADER, ClientIpSigner, KeyPurpose, SigningKeyConfig, SigningKeys};

use super::passwords::{RESET_SUBJECT, reset, reset_token};
use super::*;

/// A password that no account can have: it is wrong without being hashed, and counts like any other.
pub(super) const WRONG: &str = "wrong\0";

/// Statuses of so many log-ins with a wrong password, one after the other.
pub(super) async fn fail(bed: &Bed, email: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(bed.log_in(email, WRONG).await.0);
    }
    statuses
}

/// Makes a wait last longer than any test: as if the next failure came ten hours from now.
///
/// The service takes the wait for a quarter of an hour then, the longest there is.
pub(super) async fn prolong(bed: &Bed, kind: &'static str, whose: &str) {
    let later = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 36_000;
    let throttle = at(&bed.server, later).await;
    throttle.count(&throttle.key(kind, whose), &ThrottlePolicy::ACCOUNT).await.unwrap();
}

/// What attempts at the password of `email` are counted under.
pub(super) fn key(email: &str) -> String {
    Email::parse(email).unwrap().key()
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[tokio::test]
async fn after_five_failures_one_waits_and_the_right_password_does_too() {
    let bed = Bed::start().await;
    bed.sign_up("ada@example.com").await;
    bed.sign_up("eve@example.com").await;
    let stream = bed.client.connection().jetstream().get_stream("KV_auth_backoff").await.unwrap();
    let count = async || {
        let last = stream.get_last_raw_message_by_subject("$KV.auth_backoff.password.*").await.unwrap();
        let count: Value = serde_json::from_slice(&last.payload).unwrap();
        (count["failures"].as_u64().unwrap(), count["until"].as_u64().unwrap())
    };
    let mut refusals = Vec::new();
    for email in ["ada@example.com", "nobody@example.com"] {
        assert_eq!(fail(&bed, email, 4).await, [401; 4]);
        let (failures, until) = count().await;
        assert!(failures == 4 && until <= unix_millis(), "nobody waits yet");
        let before = unix_millis();
        assert_eq!(fail(&bed, email, 1).await, [401]);
        let (failures, until) = count().await;
        assert!(failures == 5 && until >= before + 1_000);

        prolong(&bed, "password", &key(email)).await;
        let request = bed.http.post(format!("{}/api/auth/login", bed.system.gateway_url()));
        // Another spelling of the address is no other account.
        let body = json!({ "email": format!(" {}", email.to_uppercase()), "password": PASSWORD });
        let response = soon(request.json(&body).send()).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()["retry-after"].as_bytes()), (429, &b"900"[..]));
        refusals.push(response.json::<Value>().await.unwrap());
    }
    let refusal = json!({
        "code": "RESOURCE_EXHAUSTED",
        "message": "too many attempts failed: try again later",
        "details": { "retryAfterMs": 900_000 },
    });
    assert_eq!(refusals, [refusal.clone(), refusal], "the answer does not tell who has an account");
    assert_eq!(bed.log_in("eve@example.com", PASSWORD).await.0, 200);
}

#[tokio::test]
async fn a_success_forgets_the_failures_before_it() {
    let bed = Bed::start().await;
    bed.sign_up("ada@example.com").await;
    for _ in 0..3 {
        assert_eq!(fail(&bed, "ada@example.com", 4).await, [401; 4]);
        assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200);
    }
}

#[tokio::test]
async fn of_many_guesses_at_once_at_all_instances_five_are_looked_at() {
    let server = server();
    let system = soon(System::start(options(&server), &mut Report::silent())).await.unwrap();
    let bed = Bed { system, client: client(&server).await, http: http(), server };
    let second = ::auth::service(|name| match name {
        "JWT_SECRET" => Some(SECRET.to_owned()),
        "JWT_REFRESH_SECRET" => Some(REFRESH_SECRET.to_owned()),
        _ => None,
    });
    let second = second.start(nats(&bed.server)).await.unwrap();
    let started = std::time::Instant::now();
    let guesses = join_all((0..24).map(|_| {
        let call = json!({ "email": "ada@example.com", "password": WRONG });
        let client = bed.client.clone();
        async move { client.send::<Value>("auth.login", &call).await.unwrap_err().code().unwrap().status() }
    }))
    .await;
    let of = |status: u16| guesses.iter().filter(|found| **found == status).count();
    // On a machine that stands still the waits end, the first after a second.
    let looked_at = 5 + started.elapsed().as_secs() as usize;
    // An attempt that gets no turn before its deadline is told that the account is busy.
    assert!(of(401) <= looked_at && of(401) + of(429) + of(503) == 24, "{guesses:?}");
    let asked = |running: &nats_rpc::ServiceHandle| running.stats().iter().map(|stats| stats.requests).sum::<u64>();
    assert!(asked(&second) > 0 && asked(bed.system.auth()) > 0);
}

#[tokio::test]
async fn one_password_over_many_accounts_stops_at_the_source_and_a_header_is_no_way_round() {
    let bed = Bed::start().await;
    bed.sign_up("ada@example.com").await;
    for n in 0..20 {
        let request = bed.http.post(format!("{}/api/auth/login", bed.system.gateway_url()));
        let request = request.header("x-forwarded-for", format!("198.51.100.{n}"));
        let body = json!({ "email": format!("user{n}@example.com"), "password": WRONG });
        assert_eq!(answer(request.json(&body)).await.0, 401, "{n}");
    }
    // Twenty failures are on the count of this one address.
    prolong(&bed, "source", "127.0.0.1").await;
    let (status, refused) = bed.log_in("ada@example.com", PASSWORD).await;
    assert_eq!((status, &refused["details"]["retryAfterMs"]), (429, &json!(60_000)));
    let kv = bed.client.connection().jetstream().get_stream("KV_auth_backoff").await.unwrap();
    let sources = kv.get_last_raw_message_by_subject("$KV.auth_backoff.source.*").await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&sources.payload).unwrap()["failures"], json!(21));
    // Who comes from somewhere else does not suffer for it.
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    bed.client.send::<Value>("auth.login", &body).await.unwrap();
}

#[tokio::test]
async fn the_source_is_what_a_gateway_signed_and_nothing_else() {
    let bed = Bed::start_with(|options| options.var("LOG_INS_PER_MINUTE", "3")).await;
    let secret = |text: &str| SecretKey::new("JWT_ASSERTION_SECRET", text).unwrap();
    let signer = ClientIpSigner::hs256(&secret(ASSERTION_SECRET));
    let forger = ClientIpSigner::hs256(&secret("another assertion secret, of whoever forges"));
    let body = json!({ "email": "nobody@example.com", "password": WRONG });
    let bytes = body.to_string().into_bytes();
    let sign =
        |signer: &ClientIpSigner, subject: &str| signer.sign("203.0.113.7".parse().unwrap(), subject, &bytes).unwrap();
    let log_in = async |proof: Option<&str>| {
        let client = proof.map_or(bed.client.clone(), |proof| bed.client.header(CLIENT_IP_HEADER, proof));
        client.send::<Value>("auth.login", &body).await.unwrap_err().code().unwrap().status()
    };
    let good = sign(&signer, "auth.login");
    assert_eq!(log_in(Some(&good)).await, 401);
    // None of these is proof, so together they use up what callers without one share.
    assert_eq!(log_in(Some(&good)).await, 401, "used before");
    assert_eq!(log_in(Some(&sign(&forger, "auth.login"))).await, 401, "another key");
    assert_eq!(log_in(Some(&sign(&signer, "auth.signup"))).await, 401, "another subject");
    assert_eq!(log_in(None).await, 429);
    // The fifth failure of the account: proven, and so looked at.
    assert_eq!(log_in(Some(&sign(&signer, "auth.login"))).await, 401);
    prolong(&bed, "source", "203.0.113.7").await;
    assert_eq!(log_in(Some(&sign(&signer, "auth.login"))).await, 429);
}

#[tokio::test]
async fn with_a_key_ring_the_source_is_proven_by_a_gateways_own_key_and_by_no_other() {
    let bed = Bed::start_on(server(), |server| {
        let options = Options::new(nats(server)).var("JWT_REFRESH_SECRET", REFRESH_SECRET);
        options.var("GATEWAY_TIMEOUT_MS", "30000").var("LOG_INS_PER_MINUTE", "4")
    })
    .await;
    let connection = Connection::open(&bed.system.nats_of("auth")).await.unwrap();
    let keys = async |purpose| soon(SigningKeys::open(&connection, SigningKeyConfig::new(purpose))).await.unwrap();
    let body = |email: &str| json!({ "email": email, "password": WRONG });
    let log_in = async |signer: &ClientIpSigner, email: &str| {
        let body = body(email);
        let address = "203.0.113.7".parse().unwrap();
        let proof = signer.sign(address, "auth.login", body.to_string().as_bytes()).unwrap();
        let client = bed.client.header(CLIENT_IP_HEADER, proof);
        client.send::<Value>("auth.login", &body).await.unwrap_err().code().unwrap().status()
    };
    // A key of the same ring that is for something else, one of another ring, and a secret.
    let vouches = keys(KeyPurpose::Assertions).await;
    let signs_tokens = keys(KeyPurpose::AccessTokens).await;
    let secret = SecretKey::new("JWT_ASSERTION_SECRET", ASSERTION_SECRET).unwrap();
    for forger in [vouches.client_ip_signer(), signs_tokens.client_ip_signer(), ClientIpSigner::hs256(&secret)] {
        assert_eq!(log_in(&forger, "ada@example.com").await, 401);
    }
    assert_eq!(
        bed.client.send::<Value>("auth.login", &body("ada@example.com")).await.unwrap_err().code().unwrap().status(),
        401
    );
    // They used up together what callers share whose source nobody proves.
    assert_eq!(log_in(&vouches.client_ip_signer(), "eve@example.com").await, 429);
    // The gateway's own key proves its callers', and so does another gateway's.
    assert_eq!(bed.log_in("nobody.else@example.com", WRONG).await.0, 401);
    prolong(&bed, "source", "127.0.0.1").await;
    assert_eq!(bed.log_in("nobody.else@example.com", WRONG).await.0, 429);
    let another = keys(KeyPurpose::Peers).await.client_ip_signer();
    assert_eq!(log_in(&another, "eve@example.com").await, 401);
    prolong(&bed, "source", "203.0.113.7").await;
    assert_eq!(log_in(&another, "eve@example.com").await, 429);
}

#[tokio::test]
async fn a_reset_lifts_the_wait_for_whoever_owns_the_mailbox() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    bed.sign_up("ada@example.com").await;
    fail(&bed, "ada@example.com", 5).await;
    prolong(&bed, "password", &key("ada@example.com")).await;
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 429);
    let token = reset_token(&bed, "ada@example.com").await;
    assert_eq!(reset(&bed, &token, "incorrect horse battery").await, 200);
    assert_eq!(bed.log_in("ada@example.com", "incorrect horse battery").await.0, 200);
}

#[tokio::test]
async fn a_flood_is_refused_at_once_beyond_the_queue_and_costs_nothing_beyond_it() {
    const FLOOD: usize = 250;
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let flood = join_all((0..FLOOD).map(|n| {
        let call = json!({ "email": format!("user{n}@example.com"), "password": "correct horse battery" });
        let client = bed.client.timeout(Duration::from_secs(60));
        async move { client.send::<Value>("auth.login", &call).await.unwrap_err().code().unwrap().status() }
    }));
    // Others are served meanwhile.
    let (statuses, (refreshed, _)) = futures::join!(flood, bed.refresh(&ada.refresh_token));
    assert_eq!(refreshed, 200);
    let of = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert!(of(401) + of(503) == FLOOD && of(401) > 0 && of(503) > 0, "{statuses:?}");
    // No account was counted, or looked for, on behalf of those that found no place.
    let mut bucket = bed.client.connection().jetstream().get_stream("KV_auth_backoff").await.unwrap();
    let counted = bucket.info().await.unwrap().state.messages;
    assert_eq!(counted as usize, of(401) + 2, "and a sign-up, of an address and its network");
}

/// A back-off whose time is set by the test, with the seconds that it starts at.
async fn at(server: &NatsServer, seconds: u64) -> LoginThrottle {
    let connection = Connection::open(&nats(server)).await.unwrap();
    let secret = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
    let now = move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    LoginThrottle::open(&connection, &secret).await.unwrap().clock(now)
}

async fn wait(throttle: &LoginThrottle, whose: &str) -> Option<u64> {
    match throttle.count(&throttle.key("password", whose), &ThrottlePolicy::ACCOUNT).await {
        Ok(()) => None,
        Err(error @ ThrottleError::TooSoon { .. }) => error.retry_after_ms(),
        Err(error) => panic!("{}", RpcError::from(error)),
    }
}

#[tokio::test]
async fn waits_double_up_to_a_quarter_of_an_hour_and_end_by_themselves() {
    let server = server();
    LoginThrottle::provision(&Connection::open(&nats(&server)).await.unwrap().jetstream(), 1).await.unwrap();
    let mut now = 1_000;
    for expected in [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        assert_eq!(wait(&at(&server, now).await, "ada").await, None, "at {now}");
        if expected > 0 {
            assert_eq!(wait(&at(&server, now).await, "ada").await, Some(expected * 1_000));
            assert_eq!(wait(&at(&server, now + expected - 1).await, "ada").await, Some(1_000));
        }
        now += expected;
    }
}

#[tokio::test]
async fn every_count_expires_also_where_one_was_before() {
    let server = server();
    let connection = Connection::open(&nats(&server)).await.unwrap();
    LoginThrottle::provision(&connection.jetstream(), 1).await.unwrap();
    let throttle = at(&server, 1_000).await;
    let key = throttle.key("password", "ada");
    let stream = connection.jetstream().get_stream("KV_auth_backoff").await.unwrap();
    let lifetime = async || {
        let last = stream.get_last_raw_message_by_subject("$KV.auth_backoff.password.*").await.unwrap();
        last.headers.get("Nats-TTL").map(|ttl| ttl.as_str().to_owned())
    };
    for _ in 0..2 {
        for expected in ["3600", "3600"] {
            assert_eq!(wait(&throttle, "ada").await, None);
            assert_eq!(lifetime().await.as_deref(), Some(expected));
        }
        // The trace of a count that was cleared is what the next one is written over.
        throttle.clear(&key).await.unwrap();
    }
    for _ in 0..5 {
        wait(&throttle, "ada").await;
    }
    assert_eq!(lifetime().await.as_deref(), Some("3601"), "a wait is part of the lifetime");
}
