//! `auth keys`, `auth.jwks`, and the services without a secret.

use ::demo::{Options, Report, System};

use super::*;
use crate::support::client;

async fn system(server: &NatsServer, configure: impl FnOnce(Options) -> Options) -> System {
    let options = configure(Options::new(nats(server)).var("GATEWAY_TIMEOUT_MS", "30000"));
    soon(System::start(options, &mut Report::silent())).await.unwrap()
}

async fn post(system: &System, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{}{path}", system.gateway_url())).json(body);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let response = soon(request.send()).await.unwrap();
    (response.status().as_u16(), soon(response.json()).await.unwrap())
}

async fn sign_up(system: &System) -> String {
    let body = json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let (status, answer) = post(system, "/api/auth/signup", None, &body).await;
    assert_eq!(status, 201, "{answer}");
    answer["accessToken"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_public_keys_are_answered_as_a_jwk_set() {
    let server = server();
    let system = system(&server, |options| options).await;
    let token = sign_up(&system).await;
    let set: Value = client(&server).await.send("auth.jwks", &()).await.unwrap();
    let key = &set["keys"][0];
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&key["kid"], &key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&json!(kid(&token)), &json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig"))
    );
    assert_eq!(key.as_object().unwrap().len(), 6, "{key}");
    system.stop().await;
}

#[tokio::test]
async fn an_operator_lists_rotates_and_retires_keys_of_auth_and_sees_those_of_gateways() {
    let server = server();
    let system = system(&server, |options| options).await;
    let first = kid(&sign_up(&system).await);
    let keys = async |words: &[&str]| {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_auth-program"));
        let program = program.arg("keys").args(words).env("NATS_URL", server.url()).kill_on_drop(true);
        let ran = soon(program.output()).await.unwrap();
        (ran.status.success(), String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap())
    };
    let (_, listed) = keys(&["list"]).await;
    let line_of = |kid: &str| listed.lines().find(|line| line.starts_with(kid));
    assert!(line_of(&first).is_some_and(|line| line.contains("at+jwt")), "{listed}");
    // The gateway's, for proofs of where callers are.
    assert!(listed.contains("peer+jwt"), "{listed}");

    let (_, rotated) = keys(&["rotate"]).await;
    let second = rotated.split(' ').next().unwrap();
    assert_ne!(second, first);
    let (_, listed) = keys(&["list"]).await;
    assert!(listed.contains(second) && listed.contains(&first), "{listed}");

    assert!(keys(&["retire", &first]).await.0);
    let (_, listed) = keys(&["list"]).await;
    assert!(listed.contains(second) && !listed.contains(&first), "{listed}");
    let (retired_again, said) = keys(&["retire", &first]).await;
    assert!(!retired_again && said.contains(&first), "{said}");
    assert!(!keys(&["burn"]).await.0);
    system.stop().await;
}

#[tokio::test]
async fn a_gateway_that_vouches_and_services_that_take_its_word_need_no_tokens_between_them() {
    let server = server();
    let system =
        system(&server, |options| options.var("GATEWAY_SEND_ASSERTIONS", "true").var("JWT_ACCEPT_ASSERTIONS", "true"))
            .await;
    let mut overheard = foreign(&server).await.subscribe("get_user_profile").await.unwrap();
    let token = sign_up(&system).await;
    let (status, profile) = post(&system, "/api/users/profile", Some(&token), &json!({})).await;
    assert_eq!((status, &profile["email"]), (200, &json!("ada@example.com")));
    let message = soon(futures::StreamExt::next(&mut overheard)).await.unwrap();
    let headers = message.headers.unwrap();
    assert!(headers.get("nrpc-assert").is_some() && headers.get("authorization").is_none());
    system.stop().await;
}

#[tokio::test]
async fn a_gateway_that_vouches_is_not_believed_by_services_that_were_not_told_to() {
    let server = server();
    let system = system(&server, |options| options.var("GATEWAY_SEND_ASSERTIONS", "true")).await;
    let token = sign_up(&system).await;
    assert_eq!(post(&system, "/api/users/profile", Some(&token), &json!({})).await.0, 401);
    system.stop().await;
}
