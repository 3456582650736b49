//! What a start refuses, and that it says all of it at once.

use nats_rpc::prelude::*;
use nats_rpc::{Client, StartError};
use nats_rpc_jwt::prelude::*;
use nats_rpc_tests::server;

use crate::support::{client, nats};

#[derive(Clone)]
struct Store;

struct Allow;

impl Guard for Allow {
    async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
        Ok(())
    }
}

struct Deny;

impl Guard for Deny {
    async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
        Err(RpcError::forbidden("not today"))
    }
}

#[message_pattern("start.store")]
#[use_guards(Allow)]
async fn store(State(_): State<Store>) {}

#[message_pattern("start.me")]
#[use_guards(Allow, RequireRole::new("admin"))]
async fn me(_me: Auth<UserClaims>) {}

#[message_pattern("start.param")]
#[use_guards(Allow)]
async fn param(_id: Param<u32>) {}

#[message_pattern("start.*")]
#[public]
async fn open() -> &'static str {
    "open"
}

#[message_pattern("start.closed")]
async fn closed() {}

#[tokio::test]
async fn everything_missing_is_listed_with_its_place_and_nothing_starts() {
    let server = server();
    let service = Service::new("start", "1.0.0").handlers(handlers![store, me, param]);
    let error = service.start(nats(&server)).await.unwrap_err();
    let StartError::Invalid(lines) = &error else { panic!("{error}") };
    let about = |handler: &str, words: &[&str]| {
        let line = lines.iter().find(|line| words.iter().all(|word| line.contains(word)));
        let line = line.unwrap_or_else(|| panic!("nothing about {handler} in {lines:#?}"));
        assert!(line.contains("start.rs:"), "{line}");
    };
    about("store's guard", &["Allow", ".guard("]);
    about("store's state", &["Store", ".provide("]);
    about("me's claims", &["UserClaims", "use_guards"]);
    about("me's role", &["RequireRole", "no guard before it"]);
    about("param's pattern", &["names no parameter"]);
}

#[tokio::test]
async fn overlaps_and_forgotten_guards_are_found_without_a_server() {
    let service = Service::new("start", "1.0.0").handlers(handlers![store, open, closed]).guard(Allow).provide(Store);
    let error = service.start(nats_rpc::NatsConfig::new("nats://127.0.0.1:1")).await.unwrap_err();
    let StartError::Invalid(lines) = &error else { panic!("{error}") };
    assert_eq!(lines.iter().filter(|line| line.contains("overlap")).count(), 2, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("`closed` has no guard")).count(), 1, "{lines:#?}");
}

#[tokio::test]
async fn a_guard_for_all_stands_before_every_handler_that_is_not_public() {
    let server = server();
    #[message_pattern("other.closed")]
    async fn closed_by_all() {}
    let service = Service::new("start", "1.0.0")
        .handlers(handlers![closed_by_all])
        .handlers(handlers![open])
        .global_guard(async |_: ServiceContext| Ok::<_, RpcError>(Deny));
    let _service = service.start(nats(&server)).await.unwrap();
    let client = client(&server).await;
    let error = client.send::<()>("other.closed", &()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::PermissionDenied));
    assert_eq!(client.send::<String>("start.anything", &()).await.unwrap(), "open");
}

#[tokio::test]
async fn what_cannot_be_made_stops_the_start() {
    let server = server();
    let service = Service::new("start", "1.0.0")
        .handlers(handlers![open])
        .provide_with(async |_: ServiceContext| Err::<Client, _>("the disk is full"));
    let error = service.start(nats(&server)).await.unwrap_err();
    assert!(matches!(error, StartError::Setup { .. }) && error.to_string().contains("the disk is full"), "{error}");
}

#[tokio::test]
async fn reserved_prefix_stops_the_start() {
    let server = server();
    for prefix in ["$SRV", "$JS.API", "$KV.users", "_INBOX", "_INBOX_start", "_R_", "a..b", "a.*"] {
        let service = Service::new("start", "1.0.0").handlers(handlers![open]).subject_prefix(prefix);
        let error = service.start(nats(&server)).await.unwrap_err();
        assert!(matches!(error, StartError::Invalid(_)), "{prefix}: {error}");
    }
}

#[tokio::test]
async fn a_prefix_keeps_systems_apart_on_one_server() {
    let server = server();
    let service = |prefix| Service::new("start", "1.0.0").handlers(handlers![open]).subject_prefix(prefix);
    let _staging = service("staging").start(nats(&server)).await.unwrap();
    let client = client(&server).await;
    assert_eq!(client.send::<String>("staging.start.x", &()).await.unwrap(), "open");
    assert!(client.send::<String>("start.x", &()).await.is_err());
    assert!(matches!(service("a b").start(nats(&server)).await, Err(StartError::Invalid(_))));
}
