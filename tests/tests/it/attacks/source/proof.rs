//! A gateway's word for where a caller is, signed with a key of its ring: forged, used again, out of time.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use nats_rpc::{Client, Connection};
use nats_rpc_auth::{LoginThrottle, ThrottlePolicy};
use nats_rpc_jwt::SecretKey;
use nats_rpc_jwt::{CLIENT_IP_HEADER, ClientIpSigner, KeyPurpose, SigningKeyConfig, SigningKeys};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::super::capture;
use super::super::forge::{Key, b64, unb64};
use super::super::harness;
use super::super::services::{self, REFRESH_SECRET};
use super::World;
use crate::support::{client, nats, soon};

/// Where too many attempts failed: whoever is believed to be here has to wait.
const GUILTY: &str = "198.51.100.7";
const INNOCENT: &str = "198.51.100.8";
const SUBJECT: &str = "auth.login";
/// The code of an attempt that was looked at.
const LOOKED_AT: u16 = 401;
const HAS_TO_WAIT: u16 = 429;

/// Log-ins of accounts that nobody has, with a password that is none, so that nothing is hashed for them.
struct Attempts {
    client: Client,
    made: Cell<u32>,
}

impl Attempts {
    /// The data of an attempt at another account than all before: failures are counted by account as well.
    fn another(&self) -> Value {
        self.made.set(self.made.get() + 1);
        json!({ "email": format!("nobody{}@example.com", self.made.get()), "password": "x\0" })
    }

    /// The code that an attempt of this data ends with which brings `proof`.
    async fn end(&self, data: &Value, proof: &str) -> u16 {
        let client = self.client.header(CLIENT_IP_HEADER, capture::secret(proof));
        client.send::<Value>(SUBJECT, data).await.unwrap_err().code().unwrap().status()
    }

    /// Asserts that what `sign` makes proves nothing: who brings it is nobody in particular.
    async fn believe_nothing(&self, why: &str, sign: impl Fn(&str) -> String) {
        let data = self.another();
        assert_eq!(self.end(&data, &sign(&data.to_string())).await, LOOKED_AT, "{why}");
        harness::refused();
    }

    /// Asserts that who brings what `sign` makes is where it says.
    async fn believe(&self, sign: impl Fn(&str) -> String) {
        let data = self.another();
        assert_eq!(self.end(&data, &sign(&data.to_string())).await, HAS_TO_WAIT);
        harness::passed();
    }
}

fn sign(signer: &ClientIpSigner, address: &str, data: &str) -> String {
    signer.sign(address.parse().unwrap(), SUBJECT, data.as_bytes()).unwrap()
}

/// Header and claims of a token, as they stand in it.
fn opened(token: &str) -> [String; 2] {
    let mut parts = token.split('.').map(|part| String::from_utf8_lossy(&unb64(part)).into_owned());
    [(); 2].map(|()| parts.next().unwrap())
}

pub(super) async fn proofs_of_where_a_caller_is(_: &World) {
    let server = server();
    // Without a secret: the gateways' keys are in their ring.
    let _auth = services::auth(&server, &[("JWT_SECRET", "")]).await;
    let connection = Connection::open(&nats(&server)).await.unwrap();
    let own = async |purpose| soon(SigningKeys::open(&connection, SigningKeyConfig::new(purpose))).await.unwrap();
    let gateway = own(KeyPurpose::Peers).await;
    let signer = || gateway.client_ip_signer();
    let pepper = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
    // The last failure as if it had come some hours from now, so that the wait outlasts every test.
    let later = || SystemTime::now() + Duration::from_secs(36_000);
    let throttle = soon(LoginThrottle::open(&connection, &pepper)).await.unwrap();
    for _ in 1..ThrottlePolicy::SOURCE.from {
        soon(throttle.count(&throttle.key("source", GUILTY), &ThrottlePolicy::SOURCE)).await.unwrap();
    }
    let throttle = throttle.clock(later);
    soon(throttle.count(&throttle.key("source", GUILTY), &ThrottlePolicy::SOURCE)).await.unwrap();
    let attempts = Attempts { client: client(&server).await, made: Cell::default() };
    attempts.believe(|data| sign(&signer(), GUILTY, data)).await;

    // Used again, and again.
    let data = attempts.another();
    let once = sign(&signer(), GUILTY, &data.to_string());
    assert_eq!(attempts.end(&data, &once).await, HAS_TO_WAIT);
    for _ in 0..2 {
        assert_eq!(attempts.end(&data, &once).await, LOOKED_AT, "it was used");
        harness::refused();
    }
    // Out of time, by ten seconds and the five of clocks that disagree; or not yet.
    for seconds in [16, 3_600] {
        let then = move || SystemTime::now() - Duration::from_secs(seconds);
        attempts.believe_nothing("it is over", |data| sign(&signer().clock(then), GUILTY, data)).await;
    }
    let ahead = || SystemTime::now() + Duration::from_secs(60);
    attempts.believe_nothing("it is not yet", |data| sign(&signer().clock(ahead), GUILTY, data)).await;
    attempts.believe(|data| sign(&signer().clock(SystemTime::now), GUILTY, data)).await;
    // For something else.
    let elsewhere =
        |subject: &str, data: &str| signer().sign(GUILTY.parse().unwrap(), subject, data.as_bytes()).unwrap();
    attempts.believe_nothing("of another subject", |data| elsewhere("auth.signup", data)).await;
    attempts.believe_nothing("of another payload", |_| elsewhere(SUBJECT, "{}")).await;
    attempts.believe_nothing("of another audience", |data| sign(&signer().audience("other"), GUILTY, data)).await;
    attempts.believe(|data| elsewhere(SUBJECT, data)).await;

    // Forged: a stranger's signature under the name of the gateway's key, the stranger's own key, and the
    // gateway's signature of something else.
    let stranger = Key { typ: "peer+jwt", iss: "gateway", ..Key::own() };
    let genuine = |data: &str| sign(&signer(), GUILTY, data);
    let forged = |data: &str| {
        let [header, claims] = opened(&genuine(data));
        stranger.sign(&header, &claims)
    };
    attempts.believe_nothing("a stranger's signature", forged).await;
    let unknown = |data: &str| stranger.token(&serde_json::from_str(&opened(&genuine(data))[1]).unwrap());
    attempts.believe_nothing("a stranger's key", unknown).await;
    let edited = |data: &str| {
        let innocent = sign(&signer(), INNOCENT, data);
        let claims = b64(opened(&innocent)[1].replace(INNOCENT, GUILTY));
        let parts: Vec<_> = innocent.split('.').collect();
        format!("{}.{claims}.{}", parts[0], parts[2])
    };
    attempts.believe_nothing("the signature of something else", edited).await;
    // By keys that vouch for something else, in the same ring and in that of auth.
    for purpose in [KeyPurpose::Assertions, KeyPurpose::AccessTokens] {
        let signer = own(purpose).await.client_ip_signer();
        attempts.believe_nothing("a key for something else", |data| sign(&signer, GUILTY, data)).await;
    }
    attempts.believe(genuine).await;

    // Nobody is brought into disrepute either: what is forged counts against nobody.
    for _ in 0..ThrottlePolicy::SOURCE.from + 5 {
        let forged = |data: &str| {
            let [header, claims] = opened(&sign(&signer(), INNOCENT, data));
            stranger.sign(&header, &claims)
        };
        attempts.believe_nothing("a stranger's signature", forged).await;
    }
    let data = attempts.another();
    assert_eq!(attempts.end(&data, &sign(&signer(), INNOCENT, &data.to_string())).await, LOOKED_AT);
}
