//! Encrypted connections: what is refused, beside what differs in one property and is not.

use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, ConnectError, NatsConfig};
use nats_rpc_tests::certificates::{Authority, Certificate};
use nats_rpc_tests::server_with;

use crate::support::{PATIENCE, soon};

/// A server that encrypts with `certificate`, and takes `more` in its `tls` block.
fn encrypted(certificate: &Certificate, more: &str) -> NatsServer {
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, {more} }}",
        certificate.certificate.display().to_string(),
        certificate.key.display().to_string()
    );
    server_with(|builder| builder.config(config).jetstream(false))
}

/// Patient with a server that is not there: what is refused has to be refused long before.
fn nats(server: &NatsServer) -> NatsConfig {
    NatsConfig::new(server.url()).connect_timeout(PATIENCE * 10)
}

async fn works(config: NatsConfig) {
    let client = soon(Client::connect(&config)).await.unwrap();
    soon(client.connection().round_trip(PATIENCE)).await.unwrap();
}

/// Refused at once and for TLS, in words that hold `why`.
async fn is_refused(config: NatsConfig, why: &str) {
    let error = soon(Client::connect(&config)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn only_a_server_of_the_named_authority_is_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = encrypted(&authority.server(), "");
    works(nats(&server).root_certificate(authority.path())).await;
    is_refused(nats(&server).root_certificate(stranger.path()), "invalid peer certificate").await;
    // No authority of this system signed it.
    is_refused(nats(&server), "UnknownIssuer").await;
    is_refused(nats(&server).root_certificate("/no/such/ca.pem"), "No such file").await;
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_refused() {
    let authority = Authority::new();
    let server = encrypted(&authority.expired_server(), "");
    is_refused(nats(&server).root_certificate(authority.path()), "expired").await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_who_insists_on_it() {
    let authority = Authority::new();
    let server = server_with(|builder| builder.jetstream(false));
    works(nats(&server)).await;
    for insists in [nats(&server).root_certificate(authority.path()), nats(&server).require_tls()] {
        is_refused(insists, "").await;
    }
}

#[tokio::test]
async fn a_plain_connection_is_refused_by_a_server_with_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Authority::new();
    let server = encrypted(&authority.server(), "");
    works(nats(&server).root_certificate(authority.path())).await;
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    socket.write_all(b"CONNECT {\"verbose\":false}\r\nPUB a 1\r\nx\r\nPING\r\n").await.unwrap();
    let mut heard = Vec::new();
    // Whether it hangs up in order or with a reset is the server's choice.
    let _ = soon(socket.read_to_end(&mut heard)).await;
    assert!(!String::from_utf8_lossy(&heard).contains("PONG"), "{}", String::from_utf8_lossy(&heard));
}

#[tokio::test]
async fn tls_can_come_before_the_servers_first_word() {
    let authority = Authority::new();
    let server = encrypted(&authority.server(), "handshake_first: true");
    let config = nats(&server).root_certificate(authority.path());
    works(config.clone().tls_first()).await;
    let waits_for_a_word = config.connect_timeout(std::time::Duration::from_millis(300));
    assert!(soon(Client::connect(&waits_for_a_word)).await.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_not_let_in_where_one_is_asked_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let verify = format!("ca_file: {:?}, verify: true", authority.path().display().to_string());
    let server = encrypted(&authority.server(), &verify);
    let config = nats(&server).root_certificate(authority.path());
    let (own, foreign) = (authority.client(), stranger.client());
    works(config.clone().client_certificate(own.certificate, own.key)).await;
    is_refused(config.clone(), "").await;
    is_refused(config.client_certificate(foreign.certificate, foreign.key), "").await;
}

#[tokio::test]
async fn an_nkey_that_the_server_does_not_know_is_refused_at_once() {
    let (pair, authority) = (nkeys::KeyPair::new_user(), Authority::new());
    let certificate = authority.server();
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?} }}\nauthorization {{ users: [ {{ nkey: {} }} ] }}",
        certificate.certificate.display().to_string(),
        certificate.key.display().to_string(),
        pair.public_key()
    );
    let server = server_with(|builder| builder.config(config));
    let right = nats(&server).root_certificate(authority.path()).nkey(pair.seed().unwrap());
    let wrong = right.clone().nkey(nkeys::KeyPair::new_user().seed().unwrap());
    let error = soon(Client::connect(&wrong)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    works(right).await;
}
