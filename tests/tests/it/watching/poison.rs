//! Records and messages that end a client of NATS, or make it publish.

use super::*;
use crate::renewal::deadly;
use crate::support::send_raw;

const RING: &str = "$KV.gw_jwks.ring";

/// Whether the document of gateways is one that a client can read.
async fn is_mended(connection: &Connection) -> bool {
    let bucket = nats_rpc::KvBucket::open(connection, "gw_jwks").await.unwrap();
    let record = bucket.current().await.unwrap().latest("ring").await.unwrap().unwrap();
    !record.has_bad_headers && serde_json::from_slice::<serde_json::Value>(&record.value.unwrap()).is_ok()
}

async fn planted() -> (NatsServer, Connection) {
    let server = server();
    provision(&jetstream::new(foreign(&server).await), 1).await;
    send_raw(&server, &deadly(RING)).await;
    let connection = Connection::open(&nats(&server)).await.unwrap();
    assert!(!is_mended(&connection).await, "the record is there");
    (server, connection)
}

#[tokio::test]
async fn watch_by_consumer_survives_a_poisoned_record() {
    for config in [|config: NatsConfig| config, without_consumers] {
        let server = server();
        provision(&jetstream::new(foreign(&server).await), 1).await;
        let open = async || Connection::open(&config(nats(&server))).await.unwrap();
        let auth = open().await;
        let of_auth = SigningKeyConfig::new(KeyPurpose::AccessTokens).activation_delay(Duration::ZERO);
        let keys_of_auth = soon(SigningKeys::open(&auth, of_auth)).await.unwrap();
        let _beacon = TrustBeacon::start(&auth, &ChangeSigner::keys(&keys_of_auth)).await.unwrap();
        let (gateway, follower) = (open().await, open().await);
        let of_gateway = SigningKeyConfig::new(KeyPurpose::Peers).activation_delay(Duration::ZERO);
        let keys = soon(SigningKeys::open(&gateway, of_gateway)).await.unwrap();
        let ring = soon(KeyRing::watch(&follower, KeyPurpose::Peers)).await.unwrap();
        let knows = |kid: Option<String>| kid.is_some_and(|kid| format!("{ring:?}").contains(&kid));
        until(|| knows(keys.kid())).await;
        for _ in 0..3 {
            send_raw(&server, &deadly(RING)).await;
            assert!(knows(keys.kid()), "the last good state stays");
            // The gateway writes its document over it, and its next key arrives.
            soon(async {
                while !is_mended(&gateway).await {
                    tokio::time::sleep(SECOND / 50).await;
                }
            })
            .await;
            let kid = soon(keys.rotate()).await.unwrap();
            until(|| knows(Some(kid.clone()))).await;
        }
    }
}

#[tokio::test]
async fn poisoned_ring_of_gateways_keeps_nothing_from_starting() {
    for config in [|config: NatsConfig| config, without_consumers] {
        let (server, _) = planted().await;
        let connection = Connection::open(&config(nats(&server))).await.unwrap();
        let auth = SigningKeyConfig::new(KeyPurpose::AccessTokens).activation_delay(Duration::ZERO);
        let _auth = soon(SigningKeys::open(&connection, auth)).await.unwrap();
        let vars = |name: &str| (name == "JWT_ACCEPT_ASSERTIONS").then(|| "true".to_owned());
        let opened = soon(JwtConfig::load(&connection, vars)).await;
        drop(opened.expect("a service that accepts assertions starts"));
        let gateway = Connection::open(&config(nats(&server))).await.unwrap();
        let peers = SigningKeyConfig::new(KeyPurpose::Peers).activation_delay(Duration::ZERO);
        let keys = soon(SigningKeys::open(&gateway, peers)).await.unwrap();
        assert!(is_mended(&gateway).await, "a gateway writes its document over it");
        let ring = soon(KeyRing::watch(&connection, KeyPurpose::Peers)).await.unwrap();
        until(|| format!("{ring:?}").contains(&keys.kid().unwrap())).await;
    }
}

#[tokio::test]
async fn commands_show_a_poisoned_ring_and_put_it_right() {
    let (server, connection) = planted().await;
    let run = async |words: &[&str]| {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_auth-program"));
        let program = program.args(words).env("NATS_URL", server.url()).kill_on_drop(true);
        let ran = soon(program.output()).await.unwrap();
        (ran.status.success(), String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap())
    };
    let (ok, said) = run(&["keys", "list"]).await;
    assert!(ok && said.contains("gw_jwks"), "{said}");
    let (ok, said) = run(&["provision"]).await;
    assert!(ok, "{said}");
    assert!(is_mended(&connection).await);
    let (ok, said) = run(&["keys", "list"]).await;
    assert!(ok && !said.contains("gw_jwks"), "{said}");
}

/// A request of flow control asks its receiver to publish to any subject.
#[tokio::test]
async fn forged_flow_control_request_is_not_answered() {
    let server = server();
    let jetstream = jetstream::new(foreign(&server).await);
    provision(&jetstream, 1).await;
    let victim = jetstream::kv::Config { bucket: "victim".to_owned(), ..Default::default() };
    let victim = jetstream.create_key_value(victim).await.unwrap();
    victim.put("k", "v".into()).await.unwrap();
    let attack = async |stream: &str| {
        let stream = jetstream.get_stream(stream).await.unwrap();
        let consumers: Vec<_> = stream.consumers().map(Result::unwrap).collect().await;
        assert!(!consumers.is_empty(), "somebody watches");
        for consumer in consumers {
            let inbox = consumer.config.deliver_subject.unwrap();
            let header = "NATS/1.0 100 FlowControl Request\r\n\r\n";
            let (reply, length) = ("$JS.API.STREAM.PURGE.KV_victim", header.len());
            send_raw(&server, format!("HPUB {inbox} {reply} {length} {length}\r\n{header}\r\n").as_bytes()).await;
        }
    };
    let connection = Connection::open(&nats(&server)).await.unwrap();
    let revoker = Revoker::open(&connection).await.unwrap();
    let revocations = soon(Revocations::watch(&connection)).await.unwrap();
    attack("KV_auth_rev").await;
    revoker.session("s1").await.unwrap();
    until(|| revocations.len() == 1).await;
    assert!(victim.get("k").await.unwrap().is_some());
    // The control: async-nats' own watch purges the bucket.
    let watched = jetstream.get_key_value("gw_jwks").await.unwrap();
    let mut watch = watched.watch_all().await.unwrap();
    tokio::spawn(async move { while watch.next().await.is_some() {} });
    attack("KV_gw_jwks").await;
    soon(async {
        while victim.get("k").await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
