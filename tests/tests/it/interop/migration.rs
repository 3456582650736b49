//! A NestJS gateway in front of a NestJS service, then of ours: the same requests, the same answers.

use std::path::Path;

use nats_rpc::ServiceHandle;
use nats_rpc::testing::NatsServer;
use nats_rpc_tests::{node, server};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{Process, node_is_there, report};
use crate::support::{nats, soon};

const SECRET: &str = "a secret of the gateway and the service, for a test";

/// Runs a program of `examples/nestjs-migration`.
async fn run(file: &str, server: &NatsServer) -> (Process, String) {
    let mut command = node::node_in(Path::new("examples/nestjs-migration")).unwrap_or_else(|error| panic!("{error}"));
    command.args(["--import", "tsx", file]).env("NATS_URL", server.url()).env("JWT_SECRET", SECRET).env("PORT", "0");
    Process::start(command).await
}

async fn ours(server: &NatsServer) -> ServiceHandle {
    nats_rpc_examples::nestjs_migration::service(SECRET).unwrap().start(nats(server)).await.unwrap()
}

struct Browser {
    http: Client,
    gateway: String,
    tokens: Vec<(&'static str, String)>,
}

impl Browser {
    async fn log_in(gateway: String) -> Self {
        let http = Client::builder().no_proxy().timeout(crate::support::PATIENCE).build().unwrap();
        let mut browser = Self { http, gateway, tokens: vec![("nobody", String::new()), ("junk", "a.b.c".to_owned())] };
        for (who, roles) in [("ada", json!([])), ("bob", json!(["admin"])), ("eve", json!([]))] {
            let (_, body) =
                browser.ask("nobody", Method::POST, "login", json!({ "userId": who, "roles": roles })).await;
            browser.tokens.push((who, body["accessToken"].as_str().unwrap().to_owned()));
        }
        browser
    }

    async fn ask(&self, who: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let token = &self.tokens.iter().find(|(name, _)| *name == who).unwrap().1;
        let mut request = self.http.request(method, format!("{}/{path}", self.gateway));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// All that a gateway's users do, good and bad, and what they get.
    async fn everything(&self) -> Vec<(String, u16, Value)> {
        let name = |name: Value| json!({ "name": name });
        let requests = [
            ("ada", Method::GET, "users/ada", Value::Null),
            ("nobody", Method::GET, "users/ada", Value::Null),
            ("junk", Method::GET, "users/ada", Value::Null),
            ("eve", Method::GET, "users/ada", Value::Null),
            ("eve", Method::GET, "users/eve", Value::Null),
            ("ada", Method::PATCH, "users/ada", name("Ada Lovelace".into())),
            ("ada", Method::GET, "users/ada", Value::Null),
            ("ada", Method::PATCH, "users/ada", name("".into())),
            ("ada", Method::PATCH, "users/ada", name(7.into())),
            ("eve", Method::PATCH, "users/ada", name("Eve".into())),
            ("ada", Method::GET, "users", Value::Null),
            ("bob", Method::GET, "users", Value::Null),
            ("ada", Method::GET, "users/ada/history", Value::Null),
            ("eve", Method::GET, "users/ada/history", Value::Null),
            ("nobody", Method::POST, "users/ada/visits", Value::Null),
        ];
        let mut answers = Vec::new();
        for (who, method, path, body) in requests {
            let asked = format!("{who}: {method} {path} {body}");
            let (status, body) = self.ask(who, method, path, body).await;
            answers.push((asked, status, body));
        }
        // An event is not waited for by who sends it.
        let counted = async {
            loop {
                let (status, body) = self.ask("ada", Method::GET, "users/ada/visits", Value::Null).await;
                if body["visits"] != 0 {
                    return ("ada: GET users/ada/visits".to_owned(), status, body);
                }
            }
        };
        answers.push(soon(counted).await);
        answers
    }
}

#[tokio::test]
async fn a_nestjs_gateway_cannot_tell_the_service_that_moved_from_the_one_before() {
    if !node_is_there() {
        return;
    }
    let server = server();
    let (before, _) = run("users.ts", &server).await;
    let (_gateway, url) = run("gateway.ts", &server).await;
    let browser = Browser::log_in(url).await;
    let with_nestjs = browser.everything().await;

    // Both at once, as members of one queue group; then the one that stays.
    let after = ours(&server).await;
    for _ in 0..10 {
        let (status, body) = browser.ask("bob", Method::GET, "users/bob", Value::Null).await;
        assert_eq!((status, body), (200, json!({ "id": "bob", "name": "Bob" })));
    }
    drop(before);
    let with_ours = browser.everything().await;
    after.stop().await;

    for (before, after) in with_nestjs.iter().zip(&with_ours) {
        assert_eq!(before, after);
    }
    let statuses: Vec<_> = with_ours.iter().map(|(_, status, _)| *status).collect();
    assert_eq!(with_ours.last().unwrap().2, json!({ "visits": 1 }), "once, though there were two services for a time");
    assert_eq!(statuses, [200, 401, 401, 403, 404, 200, 200, 400, 400, 403, 403, 200, 200, 403, 202, 200]);
    report(&format!("{} requests through a NestJS gateway: the same before and after the move", with_ours.len()));
}
