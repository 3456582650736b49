//! What `services/nats.conf` permits and forbids, each forbidden thing beside one that differs in a single
//! property and is permitted.

mod buckets;
mod deputies;
mod inboxes;
pub(crate) mod intruder;

use std::collections::BTreeSet;

use nats_rpc::{CallError, Client};
use nats_rpc_tests::secured::CONFIG;
use serde_json::{Value, json};

use self::intruder::Intruder;
use crate::deployed::{Deployed, Trust, credentials};
use crate::support::{PATIENCE, soon};

/// Everybody in the file.
const USERS: [&str; 7] = ["auth", "users", "gateway", "client", "verifier", "deploy", "monitor"];

#[tokio::test]
async fn the_whole_system_works_with_the_shipped_permissions() {
    works(Trust::Secret).await;
}

#[tokio::test]
async fn it_works_with_a_key_ring() {
    works(Trust::Ring).await;
}

#[tokio::test]
async fn it_works_with_the_gateways_own_word() {
    works(Trust::Assertions).await;
}

async fn works(trust: Trust) {
    let system = Deployed::start_with(trust).await;
    let signed_up = system.sign_up("ada@example.com").await;
    let (status, tokens) = system.post("/api/auth/login", None, &credentials("ada@example.com")).await;
    assert_eq!(status, 200, "{tokens}");
    let (status, tokens) =
        system.post("/api/auth/refresh", None, &json!({ "refreshToken": tokens["refreshToken"] })).await;
    assert_eq!(status, 200, "{tokens}");
    let token = tokens["accessToken"].as_str().unwrap();
    let (status, profile) = system.post("/api/users/profile", Some(token), &json!({})).await;
    assert_eq!((status, &profile["userId"]), (200, &signed_up["userId"]));

    let client = Client::connect(&system.secured.config("client")).await.unwrap().timeout(PATIENCE).bearer(token);
    let change = json!({ "displayName": "Ada" });
    let changed: Value = soon(client.send("update_user_profile", &change)).await.unwrap();
    assert_eq!(changed["displayName"], "Ada");
    let id = signed_up["userId"].as_str().unwrap();
    let read: Value = soon(client.send(format!("users.{id}.get"), &json!({}))).await.unwrap();
    assert_eq!(read["displayName"], "Ada");

    let monitor = Client::connect(&system.secured.config("monitor")).await.unwrap().timeout(PATIENCE);
    let auth: Value = soon(monitor.connection().nats().request("$SRV.INFO.auth", "".into()))
        .await
        .map(|answer| serde_json::from_slice(&answer.payload).unwrap())
        .unwrap();
    assert_eq!(auth["name"], "auth");

    let body = json!({ "refreshToken": tokens["refreshToken"] });
    assert_eq!(system.post("/api/auth/logout", None, &body).await.0, 200);
    assert_eq!(system.post("/api/auth/refresh", None, &body).await.0, 401);
    system.auth.check(PATIENCE).await.unwrap();
    system.users.check(PATIENCE).await.unwrap();
    let log = system.secured.server.log();
    let violations: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[tokio::test]
async fn a_client_calls_handlers_and_nothing_internal() {
    let system = Deployed::start().await;
    let client = Client::connect(&system.secured.config("client")).await.unwrap().timeout(PATIENCE * 10);
    let permitted = soon(client.send::<Value>("get_user_profile", &json!({}))).await.unwrap_err();
    assert_eq!(permitted.code().unwrap().status(), 401, "{permitted}");
    for internal in ["user.created", "get_user_profil", "auth.anything", "$SRV.PING"] {
        if let Ok(_subject) = nats_rpc::Subject::new(internal) {
            let error = soon(client.send::<Value>(internal, &json!({}))).await.unwrap_err();
            assert!(matches!(error, CallError::Forbidden { .. }), "{internal}: {error}");
        }
        Intruder::connect(&system.secured, "client").await.may_not_publish(internal).await;
    }
}

#[test]
fn the_file_grants_each_service_what_it_says_that_it_needs_and_nothing_else() {
    let secret = nats_rpc::SecretKey::new("JWT_SECRET", "a secret of at least thirty-two bytes").unwrap();
    let guard: nats_rpc::JwtGuard = nats_rpc::JwtGuard::new(nats_rpc::JwtConfig::hs256(secret)).unwrap();
    let services = [::auth::service(|_| None), users::service(|_| None).guard(guard)];
    let [auth, users] = services.map(|service| service.permissions().unwrap());
    for (user, needed) in [("AUTH", auth), ("USERS", users), ("GATEWAY", ::gateway::permissions())] {
        let granted = |section| granted(user, section);
        assert_eq!(granted("publish:"), needed.publish.iter().map(String::as_str).collect(), "{needed}");
        assert_eq!(granted("subscribe:"), needed.subscribe.iter().map(String::as_str).collect(), "{needed}");
        let needed = needed.to_string();
        match needed.lines().find(|line| line.contains("allow_responses")) {
            Some(answers) => assert!(of(user).contains(answers), "{needed}"),
            None => assert!(!of(user).contains("allow_responses"), "{needed}"),
        }
    }
}

/// What the file says of a user.
fn of(user: &str) -> &'static str {
    let (_, rest) = CONFIG.split_once(&format!("nkey: $NATS_NKEY_{user}\n")).unwrap();
    rest.split("nkey: $").next().unwrap()
}

/// The subjects of a section of what the file says of a user.
fn granted(user: &str, section: &str) -> BTreeSet<&'static str> {
    let (_, rest) = of(user).split_once(section).unwrap();
    let lines = rest.split(']').next().unwrap().lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect()
}

#[tokio::test]
async fn whoever_has_no_nkey_of_the_file_or_no_tls_is_not_let_in() {
    let secured = nats_rpc_tests::secured::Secured::start();
    soon(secured.options("client").connect(secured.server.url())).await.unwrap();
    let stranger = nats_rpc::NatsConfig::new(secured.server.url()).root_certificate(secured.authority.path());
    let unknown = nkeys::KeyPair::new_user().seed().unwrap();
    for stranger in [stranger.clone(), stranger.clone().nkey(unknown), stranger.user("auth", "auth")] {
        let error = soon(Client::connect(&stranger.connect_timeout(PATIENCE * 10))).await.unwrap_err();
        assert!(matches!(error, nats_rpc::ConnectError::Refused { .. }), "{error}");
    }
}
