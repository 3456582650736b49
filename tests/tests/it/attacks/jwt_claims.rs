//! What a genuine token says: when, by whom, for whom, of whom.

use std::collections::BTreeSet;
use std::time::Duration;

use nats_rpc_jwt::JwtConfig;
use serde_json::{Value, json};

use super::forge::{HEADER, NOW, claims, claims_with, signed_with_secret};
use super::guarded::{Guarded, Hand, World, secret};
use super::harness::{self, Outcome, cases};
use super::services::{self, Wiretap};
use crate::support::{client, soon};

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "jwt-claims-01" => expired,
        "jwt-claims-02" => the_boundary_of_expiry,
        "jwt-claims-04" => too_long_a_life,
        "jwt-claims-05" => expiry_before_issue,
        "jwt-claims-07" => issued_in_the_future,
        "jwt-claims-08" => issued_at_no_time,
        "jwt-claims-10" => another_issuer,
        "jwt-claims-11" => another_audience,
        "jwt-claims-13" => a_subject_that_can_be_nobodys,
        "jwt-claims-14" => a_subject_that_reads_as_wildcards,
        "jwt-claims-16" => a_token_without_an_id,
        "jwt-claims-17" => deep_nesting,
        "jwt-claims-19" => roles_and_scope_of_other_types,
        "jwt-claims-20" => a_scope_that_contains_the_one_needed,
        "jwt-claims-22" => a_refresh_token_as_access_token,
        "jwt-claims-23" => an_access_token_as_refresh_token,
        "own-claims-exp-type" => times_that_are_no_whole_seconds,
        "own-claims-nbf" => not_valid_yet,
        "own-claims-twice" => a_claim_twice,
        "own-claims-no-object" => claims_that_are_no_object,
        "own-claims-forged-expired" => an_expired_token_that_is_also_forged,
    ];
    harness::run(World::start, cases).await
}

/// Tokens of these claims, by either kind of key.
fn tokens(world: &World, changes: Value) -> [(&Guarded, String); 2] {
    let claims = claims_with(changes);
    [(&world.secret, signed_with_secret(HEADER, &claims.to_string())), (&world.ring, world.ed.token(&claims))]
}

async fn expired(world: &World) {
    for exp in [NOW - 6, NOW - 5] {
        for (guarded, token) in tokens(world, json!({ "iat": exp - 900, "exp": exp })) {
            guarded.refuses_as_expired(token).await;
        }
    }
    world.takes_claims(json!({ "iat": NOW - 904, "exp": NOW - 4 })).await;
    // One that was taken, and so is cached, ends all the same.
    let now = Hand::at(NOW);
    let guarded = Guarded::start(&world.server, "clocked", JwtConfig::hs256(secret()).clock(now.clock())).await;
    let token = world.good();
    guarded.takes(&token).await;
    now.set(NOW + 904);
    guarded.takes(&token).await;
    now.set(NOW + 905);
    guarded.refuses_as_expired(&token).await;
}

/// Valid if and only if `now < exp + leeway`.
async fn the_boundary_of_expiry(world: &World) {
    let strict = JwtConfig::hs256(secret()).leeway(Duration::ZERO).clock(world.now.clock());
    let strict = Guarded::start(&world.server, "strict", strict).await;
    for (guarded, leeway) in [(&strict, 0), (&world.secret, 5)] {
        for exp in NOW - leeway - 2..=NOW + 2 {
            let token = signed_with_secret(HEADER, &claims_with(json!({ "iat": exp - 900, "exp": exp })).to_string());
            match NOW < exp + leeway {
                true => drop(guarded.takes(token).await),
                false => guarded.refuses_as_expired(token).await,
            }
        }
    }
}

async fn too_long_a_life(world: &World) {
    for seconds in [3_601, 86_400, 315_360_000] {
        world.refuses_claims(json!({ "exp": NOW + seconds })).await;
    }
    world.refuses_claims(json!({ "exp": u64::MAX })).await;
    world.refuses_claims(json!({ "exp": 253_402_300_800_u64 })).await;
    world.takes_claims(json!({ "exp": NOW + 3_600 })).await;
}

async fn expiry_before_issue(world: &World) {
    // Within the clock skew on both sides, so that nothing else refuses it.
    world.refuses_claims(json!({ "iat": NOW + 1, "exp": NOW })).await;
    world.refuses_claims(json!({ "iat": NOW, "exp": NOW })).await;
    world.takes_claims(json!({ "iat": NOW - 1, "exp": NOW })).await;
}

async fn issued_in_the_future(world: &World) {
    world.refuses_claims(json!({ "iat": NOW + 3_600, "exp": NOW + 4_500 })).await;
    world.refuses_claims(json!({ "iat": NOW + 6 })).await;
    world.takes_claims(json!({ "iat": NOW + 5 })).await;
}

async fn issued_at_no_time(world: &World) {
    world.refuses_claims(json!({ "iat": null })).await;
    world.takes_claims(json!({ "iat": NOW })).await;
}

async fn another_issuer(world: &World) {
    for iss in [
        json!("evil"),
        json!(null),
        json!(1),
        json!(["evil", "nats-rpc-auth"]),
        json!(["nats-rpc-auth"]),
        json!("nats-rpc-auth/"),
        json!("NATS-RPC-AUTH"),
        json!("nats-rpc-aut"),
        json!("nats-rpc-auth\0"),
        json!(""),
        json!("gateway"),
    ] {
        world.refuses_claims(json!({ "iss": iss })).await;
    }
    world.takes_claims(json!({ "iss": "nats-rpc-auth" })).await;
}

async fn another_audience(world: &World) {
    for aud in [
        json!("other"),
        json!(null),
        json!(1),
        json!([]),
        json!(["other"]),
        json!("nats-rp"),
        json!("nats-rpc2"),
        json!("NATS-RPC"),
        json!(""),
        json!([1, "nats-rpc"]),
        json!({ "0": "nats-rpc" }),
        json!([["nats-rpc"]]),
        json!(vec!["nats-rpc"; 10_000]),
    ] {
        world.refuses_claims(json!({ "aud": aud })).await;
    }
    world.takes_claims(json!({ "aud": "nats-rpc" })).await;
    world.takes_claims(json!({ "aud": ["other", "nats-rpc"] })).await;
}

async fn a_subject_that_can_be_nobodys(world: &World) {
    for sub in [
        json!(null),
        json!(1),
        json!(["u1"]),
        json!({ "sub": "u1" }),
        json!(""),
        json!("u1\0"),
        json!("u1\nroot"),
        json!("u1\u{7f}"),
        json!("u1\u{85}"),
        json!("a".repeat(257)),
    ] {
        world.refuses_claims(json!({ "sub": sub })).await;
    }
    // Whatever else a name may be made of arrives byte for byte, composed or not.
    for sub in ["\u{202e}toor", "\u{e9}", "e\u{301}", "x y", &"a".repeat(256)] {
        assert_eq!(world.takes_claims(json!({ "sub": sub })).await, sub);
    }
}

/// Such a subject names nobody, and reaches no subject and no key of NATS.
async fn a_subject_that_reads_as_wildcards(world: &World) {
    let users = services::users(&world.server, JwtConfig::hs256(secret()).clock(world.now.clock())).await;
    let client = client(&world.server).await;
    let ask = async |sub: &str| {
        let claims = claims_with(json!({ "sub": sub, "scope": "profile:read profile:write" }));
        let token = signed_with_secret(HEADER, &claims.to_string());
        let client = client.bearer(&token);
        let read = client.send::<Value>("get_user_profile", &json!({})).await;
        let written = client.send::<Value>("update_user_profile", &json!({ "bio": "b" })).await;
        [read, written]
    };
    let hostile = ["a.>", "*", ">", "x y", "$KV.users.>", "..", "a.b"];
    let tap = Wiretap::on(&world.server, ">").await;
    for sub in hostile {
        for answer in ask(sub).await {
            assert_eq!(answer.unwrap_err().code().unwrap().status(), 404, "{sub}");
            harness::refused();
        }
    }
    let heard: BTreeSet<String> =
        tap.heard().await.into_iter().filter(|subject| !subject.starts_with("_INBOX.")).collect();
    // The questions, and nothing that they led to.
    let asked = ["get_user_profile", "update_user_profile"].map(str::to_owned);
    assert_eq!(heard, BTreeSet::from(asked));

    let ada = services::profile(&users, "ada@example.com").await;
    for answer in ask(&ada).await {
        assert_eq!(answer.unwrap()["userId"], ada.as_str());
        harness::passed();
    }
}

async fn a_token_without_an_id(world: &World) {
    for jti in [json!(null), json!(""), json!("j".repeat(65)), json!(1), json!("a b"), json!("a\n"), json!("\u{e9}")] {
        world.refuses_claims(json!({ "jti": jti })).await;
    }
    for sid in [json!(""), json!("s".repeat(65)), json!(1), json!("a b"), json!("s1.>\n")] {
        world.refuses_claims(json!({ "sid": sid })).await;
    }
    world.takes_claims(json!({ "jti": "j".repeat(64) })).await;
    // An id is not for one use: the same token serves many requests.
    let [(guarded, token), _] = tokens(world, json!({ "jti": "again" }));
    for _ in 0..3 {
        guarded.takes(&token).await;
    }
    // Nor for one token.
    world.takes_claims(json!({ "jti": "again", "sub": "u2" })).await;
}

async fn deep_nesting(world: &World) {
    let with = |depth: usize| {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        claims().to_string().replacen('{', &format!(r#"{{"x":{nested},"#), 1)
    };
    // Too long as it is; what fits is read past without recursion.
    world.secret.refuses(signed_with_secret(HEADER, &with(3_000))).await;
    world.ring.refuses(world.ed.sign(&world.ed.header().to_string(), &with(3_000))).await;
    world.secret.takes(signed_with_secret(HEADER, &with(1_200))).await;
    world.ring.takes(world.ed.sign(&world.ed.header().to_string(), &with(1_200))).await;
    // Nested where a claim is read, it is not what the claim has to be.
    world.refuses_claims(json!({ "roles": [[[["admin"]]]] })).await;
}

async fn roles_and_scope_of_other_types(world: &World) {
    for changes in [
        json!({ "roles": "admin" }),
        json!({ "roles": { "admin": true } }),
        json!({ "roles": ["admin", 1] }),
        json!({ "roles": true }),
        json!({ "scope": ["users:read"] }),
        json!({ "scope": { "users:read": true } }),
        json!({ "scope": 1 }),
        json!({ "ep": "0" }),
        json!({ "ep": -1 }),
    ] {
        world.refuses_claims(changes).await;
    }
    // A role that nobody knows is a role that nobody asks for.
    world.takes_claims(json!({ "roles": ["superuser"] })).await;
    for role in ["superuser", "Admin", "admin ", "administrator", "ADMIN", "", "admin\0", "user admin"] {
        let [(guarded, token), _] = tokens(world, json!({ "roles": [role] }));
        guarded.forbids("admin", token).await;
    }
    let [(guarded, token), _] = tokens(world, json!({ "roles": ["user", "admin"] }));
    guarded.lets("admin", token).await;
}

async fn a_scope_that_contains_the_one_needed(world: &World) {
    for scope in [
        "users:readonly",
        "users",
        "users:rea",
        "xusers:read",
        "USERS:READ",
        "users:read\u{a0}admin",
        "users:read\tadmin",
        "users:read\u{2003}x",
        "a,users:read",
        "users:read,a",
        "users:*",
        "*",
        "",
        " ",
    ] {
        let [(guarded, token), _] = tokens(world, json!({ "scope": scope }));
        guarded.forbids("read", token).await;
    }
    for scope in ["users:read", "a users:read b", "a  users:read", " users:read "] {
        let [(guarded, token), _] = tokens(world, json!({ "scope": scope }));
        guarded.lets("read", token).await;
    }
    let [(guarded, token), _] = tokens(world, json!({ "scope": null }));
    guarded.forbids("read", token).await;
}

async fn a_refresh_token_as_access_token(world: &World) {
    let auth = services::auth(&world.server, &[]).await;
    let user = services::sign_up(&client(&world.server).await, "claims-22@example.com").await;
    world.secret.refuses(&user.refresh_token).await;
    world.ring.refuses(&user.refresh_token).await;
    // As another system would make them: a token of ours in all but its type.
    for typ in ["rt+jwt", "refresh+jwt", "JWT"] {
        let header = json!({ "alg": "HS256", "typ": typ }).to_string();
        world.secret.refuses(signed_with_secret(&header, &claims().to_string())).await;
        let header = world.ed.header_with(json!({ "typ": typ }));
        world.ring.refuses(world.ed.sign(&header, &claims().to_string())).await;
    }
    world.secret.takes(world.good()).await;
    soon(auth.stop()).await;
}

/// It is refused by its form: the bucket of sessions is not even asked.
async fn an_access_token_as_refresh_token(world: &World) {
    let auth = services::auth(&world.server, &[]).await;
    let client = client(&world.server).await;
    let user = services::sign_up(&client, "claims-23@example.com").await;
    let refresh = async |token: &str| client.send::<Value>("auth.refresh", &json!({ "refreshToken": token })).await;

    let tap = Wiretap::on(&world.server, "$JS.API.>").await;
    for token in [user.access_token.as_str(), &world.good(), &user.access_token.replace('.', ""), "nrt1.e30.e30.AAAA"] {
        let error = refresh(token).await.unwrap_err();
        assert_eq!(error.code().unwrap().status(), 401);
        harness::refused();
    }
    assert_eq!(tap.heard().await, Vec::<String>::new());

    let tap = Wiretap::on(&world.server, "$JS.API.>").await;
    assert!(refresh(&user.refresh_token).await.is_ok());
    assert!(tap.heard().await.iter().any(|subject| subject.contains("KV_auth_sess")));
    harness::passed();
    soon(auth.stop()).await;
}

async fn times_that_are_no_whole_seconds(world: &World) {
    for exp in
        [json!(null), json!("1800000900"), json!(1_800_000_900.5), json!(1e15), json!(-1), json!([]), json!(true)]
    {
        world.refuses_claims(json!({ "exp": exp })).await;
    }
    for iat in [json!("now"), json!(1_800_000_000.5), json!(-1), json!([])] {
        world.refuses_claims(json!({ "iat": iat })).await;
    }
    world.takes_claims(json!({ "exp": NOW + 900 })).await;
}

async fn not_valid_yet(world: &World) {
    world.refuses_claims(json!({ "nbf": NOW + 6 })).await;
    world.refuses_claims(json!({ "nbf": NOW + 3_600 })).await;
    world.refuses_claims(json!({ "nbf": "soon" })).await;
    world.takes_claims(json!({ "nbf": NOW + 5 })).await;
}

async fn a_claim_twice(world: &World) {
    let twice = |claim: &str| claims().to_string().replacen('{', &format!("{{{claim},"), 1);
    for claim in [
        r#""sub":"u1""#,
        r#""sub":"root""#,
        r#""exp":1800000900"#,
        r#""iss":"nats-rpc-auth""#,
        r#""aud":"nats-rpc""#,
        r#""\u0073ub":"u1""#,
        r#""roles":["admin"]"#,
        r#""scope":"admin""#,
        r#""jti":"j1""#,
    ] {
        world.secret.refuses(signed_with_secret(HEADER, &twice(claim))).await;
        world.ring.refuses(world.ed.sign(&world.ed.header().to_string(), &twice(claim))).await;
    }
    world.secret.takes(signed_with_secret(HEADER, &twice(r#""unknown":1,"unknown":2"#))).await;
}

async fn claims_that_are_no_object(world: &World) {
    let array = format!(r#"["nats-rpc-auth","nats-rpc","u1",{}]"#, NOW + 900);
    for payload in
        ["null", "[]", "\"u1\"", "7", "{", &array, &format!("\u{feff}{}", claims()), &format!("{}x", claims())]
    {
        world.secret.refuses(signed_with_secret(HEADER, payload)).await;
        world.ring.refuses(world.ed.sign(&world.ed.header().to_string(), payload)).await;
    }
    world.takes_claims(json!({})).await;
}

/// Only who holds a genuine token learns that it has expired.
async fn an_expired_token_that_is_also_forged(world: &World) {
    let expired = json!({ "iat": NOW - 1_000, "exp": NOW - 100 });
    for (guarded, token) in tokens(world, expired) {
        guarded.refuses(super::forge::resign(&token, |signature| signature[0] ^= 1)).await;
        guarded.refuses_as_expired(token).await;
    }
    world.takes_claims(json!({})).await;
}
