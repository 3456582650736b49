//! One customer has many addresses: guesses and sign-ups are counted for the networks too.

use nats_rpc::{Client, Connection};
use nats_rpc_auth::{LoginThrottle, ThrottlePolicy};
use nats_rpc_jwt::{CLIENT_IP_HEADER, ClientIpSigner};

use super::guesses::{WRONG, prolong};
use super::log_in_queue::{accounts, log_in_from, status};
use super::*;

#[tokio::test]
async fn guesses_from_many_networks_of_one_48_are_slowed() {
    let bed = Bed::start().await;
    let emails = accounts(&bed, 1).await;
    let connection = Connection::open(&nats(&bed.server)).await.unwrap();
    let secret = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
    let counts = LoginThrottle::open(&connection, &secret).await.unwrap();
    let failures =
        async |network: &str| counts.check(&counts.key("source", network), &ThrottlePolicy::SOURCE).await.unwrap();
    // Each guess comes from a /64 of its own.
    for n in 0..6 {
        let source = format!("2001:db8:1:{:x}::1", 0x0100 * (n / 3) + n);
        assert_eq!(status(&log_in_from(&bed, &source, &format!("nobody{n}@example.com"), WRONG).await), 401);
    }
    let expected = [("2001:db8:1::", 1), ("2001:db8:1::/56", 3), ("2001:db8:1:100::/56", 3), ("2001:db8:1::/48", 6)];
    for (network, times) in expected {
        assert_eq!(failures(network).await, times, "{network}");
    }
    assert_eq!(failures("2001:db8:2::/48").await, 0);
    // When the /48 has used up its share, none of its networks guesses on, and others do.
    prolong(&bed, "source", "2001:db8:1::/48").await;
    assert_eq!(status(&log_in_from(&bed, "2001:db8:1:ffff::1", &emails[0], PASSWORD).await), 429);
    assert_eq!(status(&log_in_from(&bed, "2001:db8:2::1", &emails[0], PASSWORD).await), 200);
    prolong(&bed, "source", "198.51.100.0/24").await;
    assert_eq!(status(&log_in_from(&bed, "198.51.100.99", &emails[0], PASSWORD).await), 429);
    assert_eq!(status(&log_in_from(&bed, "198.51.101.99", &emails[0], PASSWORD).await), 200);
}

async fn sign_up(client: &Client, source: &str, email: &str) -> u16 {
    let signer = ClientIpSigner::hs256(&SecretKey::new("JWT_ASSERTION_SECRET", ASSERTION_SECRET).unwrap());
    let body = json!({ "email": email, "password": PASSWORD });
    let proof = signer.sign(source.parse().unwrap(), "auth.signup", body.to_string().as_bytes()).unwrap();
    status(&client.header(CLIENT_IP_HEADER, proof).send("auth.signup", &body).await)
}

#[tokio::test]
async fn one_48_leaves_sign_up_to_others() {
    let bed = Bed::start_with(|options| options.var("SIGN_UPS_PER_MINUTE", "8")).await;
    bed.sign_up("ada@example.com").await;
    let mut looked_at = 0;
    // A taken address is looked at and refused, which costs no hashing and counts as much.
    for n in 0..40 {
        match sign_up(&bed.client, &format!("2001:db8:1:{n:x}00::1"), "ada@example.com").await {
            409 => looked_at += 1,
            429 => {}
            other => panic!("{other}"),
        }
    }
    assert!((5..=7).contains(&looked_at), "{looked_at} of 40: three quarters of what all have");
    assert_eq!(sign_up(&bed.client, "2001:db8:2::1", "eve@example.com").await, 200);
}
