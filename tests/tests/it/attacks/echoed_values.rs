//! Values of payloads and records that do not fit: no error and no log line repeats one.

use std::error::Error;

use auth::account::{AccountKey, Accounts};
use nats_rpc::prelude::*;
use nats_rpc::{Client, RpcError};
use nats_rpc_auth::Email;
use nats_rpc_tests::server;
use serde_json::json;

use super::capture;
use crate::support::{client, code, foreign, nats, request, soon};

/// The secrets: a password that is a number, and one that is a text where none belongs.
const NUMBER: &str = "86753098675309";
const TEXT: &str = "hunter2hunter2";

#[derive(Deserialize)]
#[allow(dead_code, reason = "no request fits")]
struct LogIn {
    password: String,
    #[serde(default)]
    attempts: u8,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    tags: Vec<Strict>,
}

#[derive(Deserialize)]
enum Kind {
    Short,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {}

#[message_pattern("echoed.login")]
async fn log_in(_: Payload<LogIn>) {}

#[event_pattern("echoed.event")]
async fn event(_: Payload<LogIn>) {}

#[message_pattern("echoed.number.{id}")]
async fn by_number(_: Param<u8>) {}

/// Replies with a secret.
#[message_pattern("echoed.secret")]
async fn secret() -> &'static str {
    TEXT
}

/// Takes the reply for a number.
#[message_pattern("echoed.calls")]
async fn calls(State(client): State<Client>) -> Result<u64, RpcError> {
    Ok(client.send("echoed.secret", &()).await?)
}

/// The text of an error with all its causes, and its `Debug`.
fn told(error: &dyn Error) -> String {
    let mut told = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error} {error:?}");
        cause = error.source();
    }
    told
}

fn repeats_nothing(told: &str) {
    assert!(!told.contains(NUMBER) && !told.contains(TEXT), "{told}");
}

#[test]
fn no_error_or_log_repeats_a_value() {
    capture::runtime().block_on(async {
        let server = server();
        let client = client(&server).await;
        let handlers = handlers![log_in, event, by_number, secret, calls];
        let service = Service::new("echoed", "1.0.0").handlers(handlers).provide(client.clone());
        let running = service.start(nats(&server)).await.unwrap();
        let foreign = foreign(&server).await;

        let fields = [
            format!(r#""password":{NUMBER}"#),
            format!(r#""password":["{TEXT}"]"#),
            format!(r#""password":"p","attempts":{NUMBER}"#),
            format!(r#""password":"p","attempts":"{TEXT}""#),
            format!(r#""password":"p","kind":"{TEXT}""#),
            format!(r#""password":"p","tags":[{{"{TEXT}":1}}]"#),
            format!(r#""{TEXT}":1"#),
            format!(r#""password":"{TEXT}","password":"{TEXT}""#),
            format!(r#""password":"{TEXT}"#),
        ];
        for fields in &fields {
            let data = format!("{{{fields}}}");
            let envelope = format!(r#"{{"pattern":"echoed.login","data":{data},"id":"88a5f0d6ac4d1830655c1"}}"#);
            for body in [data, envelope] {
                let reply = request(&foreign, "echoed.login", body.clone()).await;
                assert_eq!(code(&reply), 400, "{body}");
                repeats_nothing(&format!("{:?} {}", reply.headers, String::from_utf8_lossy(&reply.payload)));
                foreign.publish("echoed.event", body.into()).await.unwrap();
            }
        }
        for body in [TEXT.to_owned(), format!("[{NUMBER}]"), format!(r#""{TEXT}""#)] {
            let reply = request(&foreign, "echoed.login", body).await;
            repeats_nothing(&String::from_utf8_lossy(&reply.payload));
        }
        let reply = request(&foreign, &format!("echoed.number.{NUMBER}"), "").await;
        assert_eq!(code(&reply), 400);
        repeats_nothing(&String::from_utf8_lossy(&reply.payload));

        // Replies that are not of the type expected: at a client, and in a handler that calls.
        let error = client.send::<u64>("echoed.secret", &()).await.unwrap_err();
        repeats_nothing(&told(&error));
        assert_eq!(code(&request(&foreign, "echoed.calls", "").await), 500);
        soon(running.stop()).await;

        // A record in a bucket.
        Accounts::provision(&client.connection().jetstream(), users::Replicas::ONE).await.unwrap();
        let accounts = Accounts::open(client.connection()).await.unwrap();
        let key = AccountKey::of(&Email::parse("ada@example.com").unwrap());
        let bucket = client.connection().jetstream().get_key_value("auth_users").await.unwrap();
        let id = users::UserId::generate();
        for record in [json!({ "userId": id, "passwordHash": 86_753_098_675_309_u64 }), json!({ "userId": TEXT })] {
            bucket.put(key.as_str(), record.to_string().into()).await.unwrap();
            let error = accounts.find(&key).await.unwrap_err();
            repeats_nothing(&told(&error));
            repeats_nothing(&told(&RpcError::from(error)));
        }
    });
    let log = capture::log();
    assert!(log.contains("the data cannot be used: `password`: expected a string"), "the control: it is logged");
    assert!(log.contains("the answer is not of the type expected: expected u64"), "the control: it is logged");
    let of_number = log.lines().filter(|line| !line.contains("echoed.number"));
    let repeating: Vec<_> = of_number.filter(|line| line.contains(NUMBER) || line.contains(TEXT)).collect();
    assert!(repeating.is_empty(), "{repeating:#?}");
}
