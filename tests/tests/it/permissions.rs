//! What the files that are shipped permit and forbid, each forbidden thing beside one that differs in a single
//! property and is permitted.

mod accounts;
mod buckets;
mod deputies;
mod inboxes;
pub(crate) mod intruder;
mod reply_subjects;

use std::collections::BTreeSet;

use nats_rpc::{CallError, Client};
use nats_rpc_tests::secured::{Layout, Secured};
use serde_json::{Value, json};

use self::intruder::Intruder;
use crate::deployed::{Deployed, Trust, credentials};
use crate::support::{PATIENCE, soon};

#[tokio::test]
async fn the_whole_system_works_with_the_shipped_permissions() {
    for layout in Layout::ALL {
        works(layout, Trust::Secret).await;
    }
}

#[tokio::test]
async fn it_works_with_a_key_ring() {
    for layout in Layout::ALL {
        works(layout, Trust::Ring).await;
    }
}

#[tokio::test]
async fn it_works_with_the_gateways_own_word() {
    for layout in Layout::ALL {
        works(layout, Trust::Assertions).await;
    }
}

async fn works(layout: Layout, trust: Trust) {
    let system = Deployed::start_on(layout, trust).await;
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
    for service in ["auth", "users"] {
        let info = soon(monitor.connection().nats().request(format!("$SRV.INFO.{service}"), "".into())).await;
        let info: Value = serde_json::from_slice(&info.unwrap().payload).unwrap();
        assert_eq!(info["name"], service);
    }

    let body = json!({ "refreshToken": tokens["refreshToken"] });
    assert_eq!(system.post("/api/auth/logout", None, &body).await.0, 200);
    assert_eq!(system.post("/api/auth/refresh", None, &body).await.0, 401);
    system.auth.check(PATIENCE).await.unwrap();
    system.users.check(PATIENCE).await.unwrap();
    let log = system.secured.server.log();
    let violations: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(violations.is_empty(), "{layout:?} {trust:?}: {violations:#?}");
}

#[tokio::test]
async fn a_client_calls_handlers_and_nothing_internal() {
    for layout in Layout::ALL {
        client_calls_handlers_and_nothing_internal(layout).await;
    }
}

async fn client_calls_handlers_and_nothing_internal(layout: Layout) {
    let system = Deployed::start_on(layout, Trust::Secret).await;
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
    for layout in Layout::ALL {
        let secret = nats_rpc_jwt::SecretKey::new("JWT_SECRET", "a secret of at least thirty-two bytes").unwrap();
        let guard: nats_rpc_jwt::JwtGuard =
            nats_rpc_jwt::JwtGuard::new(nats_rpc_jwt::JwtConfig::hs256(secret)).unwrap();
        let vars = |user| move |name: &str| layout.var(user, name);
        let auth = ::auth::service(vars("auth")).permissions().unwrap();
        let users = users::service(vars("users")).guard(guard).permissions().unwrap();
        for (user, needed) in [("AUTH", auth), ("USERS", users), ("GATEWAY", ::gateway::permissions(vars("gateway")))] {
            let granted = |section| granted(of(layout, user), section);
            assert_eq!(granted("publish:"), needed.publish.iter().map(String::as_str).collect(), "{needed}");
            assert_eq!(granted("subscribe:"), needed.subscribe.iter().map(String::as_str).collect(), "{needed}");
            let printed = needed.to_string();
            match printed.lines().find(|line| line.contains("allow_responses")) {
                Some(answers) => assert!(of(layout, user).contains(answers), "{needed}"),
                None => assert!(!of(layout, user).contains("allow_responses"), "{needed}"),
            }
            let Some(account) = &needed.account else {
                assert_eq!(layout, Layout::Single);
                continue;
            };
            let account_of_user = account_of(layout, user);
            assert_eq!(entries(account_of_user, "exports:"), account.exports().collect(), "{needed}");
            assert_eq!(entries(account_of_user, "imports:"), account.imports().collect(), "{needed}");
        }
    }
}

#[tokio::test]
async fn auth_program_provisions_its_own_account() {
    let secured = Secured::start();
    let provision = async |names: &[&str]| {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_auth-program"));
        program.arg("provision").env("NATS_URL", secured.server.url()).env("NATS_CA", secured.authority.path());
        program.env("NATS_NKEY_SEED", secured.seed("deploy_auth")).env("NATS_INBOX_PREFIX", "_INBOX_deploy_auth");
        for name in names {
            program.env(name, secured.layout.var("deploy_auth", name).unwrap());
        }
        soon(program.kill_on_drop(true).output()).await.unwrap()
    };
    let done = provision(&["AUTH_JS_API_PREFIX", "NATS_KV_API_PREFIXES"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!secured.server.log().contains("Violation"));
    // The control: it would also create the profiles, which belong to another account.
    assert!(!provision(&["AUTH_JS_API_PREFIX"]).await.status.success());
}

/// What the file says of a user.
fn of(layout: Layout, user: &str) -> &'static str {
    let (_, rest) = layout.file().split_once(&format!("nkey: $NATS_NKEY_{user}\n")).unwrap();
    let user = rest.split("nkey: $").next().unwrap();
    // Behind the last user of an account comes the next account.
    user.split("\n    ]\n").next().unwrap()
}

/// What the file says of the account of a user.
fn account_of(layout: Layout, user: &str) -> &'static str {
    let (before, _) = layout.file().split_once(&format!("nkey: $NATS_NKEY_{user}\n")).unwrap();
    let begin = before.rfind("\n  }\n").or_else(|| before.rfind("accounts {")).unwrap();
    &layout.file()[begin..before.len()]
}

/// The entries of a section, one a line.
fn entries<'a>(text: &'a str, section: &str) -> BTreeSet<&'a str> {
    let Some((_, rest)) = text.split_once(section) else { return BTreeSet::new() };
    let lines = rest.split("\n    ]").next().unwrap().lines().map(str::trim);
    lines.filter(|line| line.starts_with('{')).collect()
}

/// The subjects of a section of what the file says of a user.
fn granted<'a>(user: &'a str, section: &str) -> BTreeSet<&'a str> {
    let Some((_, rest)) = user.split_once(section) else { return BTreeSet::new() };
    let lines = rest.split(']').next().unwrap().lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect()
}

#[tokio::test]
async fn whoever_has_no_nkey_of_the_file_or_no_tls_is_not_let_in() {
    let secured = Secured::start();
    soon(secured.options("client").connect(secured.server.url())).await.unwrap();
    let stranger = nats_rpc::NatsConfig::new(secured.server.url()).root_certificate(secured.authority.path());
    let unknown = nkeys::KeyPair::new_user().seed().unwrap();
    for stranger in [stranger.clone(), stranger.clone().nkey(unknown), stranger.user("auth", "auth")] {
        let error = soon(Client::connect(&stranger.connect_timeout(PATIENCE * 10))).await.unwrap_err();
        assert!(matches!(error, nats_rpc::ConnectError::Refused { .. }), "{error}");
    }
}
