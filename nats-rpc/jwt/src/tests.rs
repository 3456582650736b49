//! Tests of the guard as a handler's caller uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use nats_rpc::Code;
use serde::Deserialize;
use serde_json::{Value, json};

use super::testing::{Log, NOW, SECRET, at, claims, claims_with, config, raw_token, request, token};
use super::*;

fn guard() -> JwtGuard {
    JwtGuard::new(config()).unwrap()
}

/// Returns the handler's argument, or the caller's error reply.
fn activate(guard: &JwtGuard, headers: &[(&'static str, &str)], data: &str) -> Result<(String, String), RpcError> {
    let mut request = request("users.get", headers, data);
    block_on(guard.can_activate(&mut request))?;
    let data = String::from_utf8(request.data().unwrap().to_vec()).unwrap();
    Ok((request.principal().unwrap().subject().to_owned(), data))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn a_good_token_sets_the_principal() {
    let good = bearer(&token(&claims()));
    assert_eq!(activate(&guard(), &[("authorization", &good)], "{}").unwrap(), ("u1".to_owned(), "{}".to_owned()));
    assert_eq!(guard().proves(), Some(TypeId::of::<UserClaims>()));
}

#[test]
fn source_02_anything_around_a_token_is_refused_even_if_the_token_is_known() {
    let guard = guard();
    let known = token(&claims());
    for around in [
        format!("Bearer  {known}"),
        format!("Bearer {known} "),
        format!("Bearer \t{known}"),
        format!("Bearer {known}\u{a0}"),
        format!("Bearer {known}="),
        format!("Bearer {known},{known}"),
        format!("Bearer {known}, Bearer {known}"),
        format!("Bearer {}", known.replacen(|letter: char| letter.is_ascii_alphanumeric(), "+", 1)),
    ] {
        assert!(activate(&guard, &[("authorization", &bearer(&known))], "{}").is_ok());
        let error = activate(&guard, &[("authorization", &around)], "{}").unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{around:?}");
    }
}

#[test]
fn every_refusal_reads_the_same_except_that_a_token_expired() {
    let forged = bearer(&(token(&claims()) + "A"));
    let refused = [
        activate(&guard(), &[], "{}"),
        activate(&guard(), &[("authorization", &forged)], "{}"),
        activate(&guard(), &[("authorization", "Basic dTpw")], "{}"),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert_eq!((error.code(), error.message()), (Code::Unauthenticated, "unauthenticated"));
        assert!(error.details().is_none());
    }
    let expired = bearer(&token(&claims_with(json!({ "iat": NOW - 100, "exp": NOW - 50 }))));
    let error = activate(&guard(), &[("authorization", &expired)], "{}").unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unauthenticated, "token expired"));
    // A token that is expired and forged is reported as forged only.
    let error = activate(&guard(), &[("authorization", &(expired + "A"))], "{}").unwrap_err();
    assert_eq!(error.message(), "unauthenticated");
}

#[test]
fn source_08_a_users_own_word_is_removed_before_the_handler() {
    let good = bearer(&token(&claims()));
    let spoofed = r#"{"user":{"sub":"victim"},"userId":"u1"}"#;
    let (principal, data) = activate(&guard(), &[("authorization", &good)], spoofed).unwrap();
    assert_eq!((principal.as_str(), data.as_str()), ("u1", r#"{"userId":"u1"}"#));

    let keeping = JwtGuard::new(config().keep_user_field()).unwrap();
    let (principal, data) = activate(&keeping, &[("authorization", &good)], spoofed).unwrap();
    assert_eq!((principal.as_str(), data.as_str()), ("u1", spoofed));

    // A payload that cannot be parsed cannot be cleaned, and is rejected.
    let error = activate(&guard(), &[("authorization", &good)], r#"{"user":{"sub":"victim"}"#).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[test]
fn source_11_13_a_forwarded_user_is_nobody() {
    for data in [
        r#"{"user":{"sub":"victim"}}"#,
        r#"{"user":true}"#,
        r#"{"user":[]}"#,
        r#"{"user":"admin"}"#,
        r#"{"user":{"__proto__":{"sub":"victim"}}}"#,
    ] {
        let error = activate(&guard(), &[], data).unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{data}");
    }
}

#[test]
fn source_13_on_a_developers_machine_a_forwarded_user_is_typed_all_the_same() {
    let dev = || InsecureDev::prove(Some("1"), true).unwrap();
    let guard = JwtGuard::<UserClaims>::new(config().insecure_dev_forwarded_user(dev())).unwrap();
    let (principal, data) = activate(&guard, &[], r#"{"user":{"sub":"u7"},"a":1}"#).unwrap();
    assert_eq!((principal.as_str(), data.as_str()), ("u7", r#"{"a":1}"#));
    let big = format!(r#"{{"user":"{}"}}"#, "x".repeat(1 << 20));
    for data in [
        r#"{"user":true}"#,
        r#"{"user":[]}"#,
        r#"{"user":["victim"]}"#,
        r#"{"user":"admin"}"#,
        r#"{"user":{"__proto__":{"sub":"victim"}}}"#,
        r#"{"user":{"sub":""}}"#,
        r#"{"user":{"sub":"a","sub":"b"}}"#,
        r#"{"user":{"sub":"a"},"user":{"sub":"b"}}"#,
        r#"{"user":{"sub":"a","roles":"admin"}}"#,
        big.as_str(),
    ] {
        assert!(activate(&guard, &[], data).is_err(), "{}", &data[..40.min(data.len())]);
    }
    let both = activate(&guard, &[("authorization", &bearer(&token(&claims())))], r#"{"user":{"sub":"u7"}}"#);
    assert!(both.is_err());
}

#[test]
fn source_07_a_payload_token_is_taken_by_option_only() {
    let data = json!({ "token": token(&claims()), "a": 1 }).to_string();
    assert!(activate(&guard(), &[], &data).is_err());
    let open = JwtGuard::<UserClaims>::new(config().payload_source("token")).unwrap();
    assert_eq!(activate(&open, &[], &data).unwrap().0, "u1");
    let other = bearer(&token(&claims_with(json!({ "sub": "u2" }))));
    assert!(activate(&open, &[("authorization", &other)], &data).is_err());
}

#[test]
fn a_message_without_payload_or_headers_is_refused_and_does_not_panic() {
    let mut bare = nats_rpc::testing::request("a", None, None, std::time::Instant::now() + Duration::from_secs(1));
    assert!(block_on(guard().can_activate(&mut bare)).is_err());
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("authorization", bearer(&token(&claims())));
    let mut empty =
        nats_rpc::testing::request("a", Some(headers), None, std::time::Instant::now() + Duration::from_secs(1));
    assert!(block_on(guard().can_activate(&mut empty)).is_ok());
    assert!(empty.data().is_none());
}

#[derive(Debug, Deserialize)]
struct Tenant {
    sub: String,
    tenant: u32,
}

impl Principal for Tenant {
    fn subject(&self) -> &str {
        &self.sub
    }
}

#[test]
fn claims_of_ones_own_are_read_strictly() {
    let guard = JwtGuard::<Tenant>::new(config()).unwrap();
    let read = |changes: Value| guard.verify(&token(&claims_with(changes)));
    let tenant = read(json!({ "tenant": 7 })).unwrap();
    assert_eq!((tenant.sub.as_str(), tenant.tenant), ("u1", 7));
    assert_eq!(read(json!({})).unwrap_err(), JwtRejection::CustomClaims);
    assert_eq!(read(json!({ "tenant": "7" })).unwrap_err(), JwtRejection::CustomClaims);
    let twice = claims().to_string().replacen('{', r#"{"tenant":1,"tenant":2,"#, 1);
    assert_eq!(guard.verify(&raw_token(testing::HEADER, &twice)).unwrap_err(), JwtRejection::CustomClaims);
}

#[test]
fn nothing_secret_is_printed() {
    let secret = String::from_utf8(SECRET.to_vec()).unwrap();
    let good = token(&claims());
    let guard = guard();
    guard.verify(&good).unwrap();
    let error = activate(&guard, &[("authorization", &bearer(&(good.clone() + "A")))], "{}").unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    let printed = format!("{guard:?} {:?} {error:?} {error} {source} {source:?}", config());
    for hidden in [&secret, &good, good.rsplit('.').next().unwrap()] {
        assert!(!printed.contains(hidden), "{printed}");
    }
}

#[test]
fn jwt_claims_19_20_scopes_and_roles_match_whole_and_exactly() {
    use nats_rpc::{RequireRole, RequireScope};

    fn code(claims: UserClaims, guard: &impl Guard) -> Option<Code> {
        let mut request = request("users.get", &[], "{}");
        request.set_principal(Arc::new(claims));
        block_on(guard.can_activate(&mut request)).err().map(|error| error.code())
    }

    let read = RequireScope::new("users:read");
    for granted in ["users:read", "a users:read", "users:read  b"] {
        assert_eq!(code(UserClaims::new("u1").with_scope(granted), &read), None, "{granted:?}");
    }
    for granted in
        ["", "users:readonly", "users", "USERS:READ", "users:read\u{a0}admin", "users:read\tadmin", "a,users:read"]
    {
        let refused = code(UserClaims::new("u1").with_scope(granted), &read);
        assert_eq!(refused, Some(Code::PermissionDenied), "{granted:?}");
    }
    let admin = RequireRole::new("admin");
    assert_eq!(code(UserClaims::new("u1").with_roles(["user", "admin"]), &admin), None);
    for role in ["", "Admin", "admin ", "administrator", "superuser"] {
        let refused = code(UserClaims::new("u1").with_roles([role]), &admin);
        assert_eq!(refused, Some(Code::PermissionDenied), "{role:?}");
    }
    let mut nobody = request("users.get", &[], "{}");
    assert_eq!(block_on(admin.can_activate(&mut nobody)).unwrap_err().code(), Code::Unauthenticated);
}

#[test]
fn nats_11_no_token_and_no_secret_is_logged_at_any_level() {
    let log = Log::default();
    let good = token(&claims());
    tracing::subscriber::with_default(log.subscriber(), || {
        let dev = InsecureDev::prove(Some("1"), true).unwrap();
        let config = config().payload_source("token").insecure_dev_forwarded_user(dev);
        let guard = JwtGuard::<UserClaims>::new(config).unwrap();
        let header = |token: &str| activate(&guard, &[("authorization", &bearer(token))], "{}");
        header(&good).unwrap();
        for bad in [good.clone() + "A", good[1..].to_owned(), format!("{good}.{good}"), good.repeat(20)] {
            let error = header(&bad).unwrap_err();
            tracing::error!(%error, cause = std::error::Error::source(&error), ?error);
        }
        activate(&guard, &[], &json!({ "token": good }).to_string()).unwrap();
        activate(&guard, &[], r#"{"user":{"sub":"private-name"}}"#).unwrap();
    });
    let log = log.text();
    assert!(log.contains("INSECURE") && log.contains("signature does not verify"), "{log}");
    let secret = std::str::from_utf8(SECRET).unwrap();
    for hidden in [good.as_str(), &good[..20], good.rsplit('.').next().unwrap(), secret, "private-name"] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

/// Made by `@nestjs/jwt` 12.0.2: `new JwtService({ secret, signOptions: { expiresIn: '15m' } }).sign({ sub,
/// email, roles: ['admin'] })`, with the header `{"alg":"HS256","typ":"JWT"}` and no claims but those, `iat`
/// and `exp`.
const NEST_TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIwMTkyZjBjMS03ZTFhLTdjYzAtOWM1OS0wMDAwMDAwMDAwMDEiLCJlbWFpbCI6ImFkYUBleGFtcGxlLmNvbSIsInJvbGVzIjpbImFkbWluIl0sImlhdCI6MTc5NTQ3Mzk5NCwiZXhwIjoxNzk1NDc0ODk0fQ.f18J-dTmhGH_xi1fXs1-OidpD9VYGUCmpauT3Mm5r_Y";
const NEST_SECRET: &str = "nest-fixture-secret-0123456789abcdef";
const NEST_IAT: u64 = 1_795_473_994;

fn nest(now: u64) -> JwtConfig {
    JwtConfig::nest_compatible(SecretKey::new("JWT_SECRET", NEST_SECRET).unwrap()).clock(move || at(now))
}

fn nest_verify(config: JwtConfig, token: &str) -> Result<Arc<UserClaims>, JwtRejection> {
    JwtGuard::new(config).unwrap().verify(token)
}

#[test]
fn a_token_of_stock_nestjs_is_taken_by_the_compatible_guard_alone() {
    let claims = nest_verify(nest(NEST_IAT), NEST_TOKEN).unwrap();
    assert_eq!(*claims, UserClaims::new("0192f0c1-7e1a-7cc0-9c59-000000000001").with_roles(["admin"]));
    let strict = JwtConfig::hs256(SecretKey::new("JWT_SECRET", NEST_SECRET).unwrap()).clock(|| at(NEST_IAT));
    assert_eq!(nest_verify(strict, NEST_TOKEN).unwrap_err(), JwtRejection::Type);
}

#[test]
fn the_compatible_guard_still_checks_signature_expiry_and_what_is_configured() {
    assert_eq!(nest_verify(nest(NEST_IAT + 904), NEST_TOKEN).map(drop), Ok(()));
    assert_eq!(nest_verify(nest(NEST_IAT + 905), NEST_TOKEN).map(drop), Err(JwtRejection::Expired));
    assert_eq!(nest_verify(nest(NEST_IAT).issuer("i"), NEST_TOKEN).map(drop), Err(JwtRejection::Issuer));
    assert_eq!(nest_verify(nest(NEST_IAT).audience("a"), NEST_TOKEN).map(drop), Err(JwtRejection::Audience));
    let hour = nest(NEST_IAT).max_lifetime(Duration::from_secs(899));
    assert_eq!(nest_verify(hour, NEST_TOKEN).map(drop), Err(JwtRejection::Lifetime));
    let other = JwtConfig::nest_compatible(testing::secret()).clock(|| at(NEST_IAT));
    assert_eq!(nest_verify(other, NEST_TOKEN).map(drop), Err(JwtRejection::Signature));
    assert!(SecretKey::new("JWT_SECRET", "your-secret-key").is_err());
}

#[test]
fn the_compatible_guard_takes_a_bare_minimum_and_no_less() {
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::nest_compatible(testing::secret()).clock(testing::now)).unwrap();
    let nest = |header: &str, claims: &Value| guard.verify(&raw_token(header, &claims.to_string())).map(drop);
    let typ_jwt = r#"{"alg":"HS256","typ":"JWT"}"#;
    assert_eq!(nest(typ_jwt, &json!({ "sub": "u1", "exp": NOW + 1 })), Ok(()));
    assert_eq!(nest(r#"{"alg":"HS256","typ":"JWT","kid":"k"}"#, &json!({ "sub": "u1", "exp": NOW + 1 })), Ok(()));
    // The last second that has four digits for its year.
    assert_eq!(nest(typ_jwt, &json!({ "sub": "u1", "exp": 253_402_300_799_u64 })), Ok(()));
    assert_eq!(nest(typ_jwt, &json!({ "sub": "u1", "exp": 253_402_300_800_u64 })), Err(JwtRejection::Lifetime));
    assert_eq!(nest(typ_jwt, &json!({ "sub": "u1" })), Err(JwtRejection::Claims));
    assert_eq!(nest(typ_jwt, &json!({ "exp": NOW + 1 })), Err(JwtRejection::Claims));
    assert_eq!(nest(r#"{"alg":"HS256"}"#, &json!({ "sub": "u1", "exp": NOW + 1 })), Err(JwtRejection::Header));
    assert_eq!(
        nest(r#"{"alg":"HS512","typ":"JWT"}"#, &json!({ "sub": "u1", "exp": NOW + 1 })),
        Err(JwtRejection::Algorithm)
    );
    assert_eq!(nest(typ_jwt, &json!({ "sub": "u1", "exp": NOW + 1, "iat": NOW + 60 })), Err(JwtRejection::IssuedAt));
    assert_eq!(nest(typ_jwt, &json!({ "sub": "u1", "exp": NOW + 1, "jti": "" })), Err(JwtRejection::Id));
}

#[test]
fn a_cached_token_ends_with_its_key() {
    let signing = ring::testing::Key::ed25519("a");
    let ring = KeyRing::from_json(&ring::testing::document(1, &[&signing])).unwrap();
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::ring(ring.clone()).clock(testing::now)).unwrap();
    let token = signing.sign(&claims());
    assert!(guard.verify(&token).is_ok());
    assert!(guard.verify(&token).is_ok());
    ring.replace(&ring::testing::document(2, &[])).unwrap();
    assert_eq!(guard.verify(&token).unwrap_err(), JwtRejection::NoKeys);
    ring.replace(&ring::testing::document(3, &[&signing])).unwrap();
    assert!(guard.verify(&token).is_ok());
}

#[test]
fn clones_share_the_cache() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let config = config().clock(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        testing::now()
    });
    let guard = JwtGuard::<UserClaims>::new(config).unwrap();
    let token = token(&claims());
    guard.verify(&token).unwrap();
    let full = calls.swap(0, Ordering::SeqCst);
    guard.clone().verify(&token).unwrap();
    // A cache hit reads the clock once; a verification reads it twice.
    assert_eq!((full, calls.load(Ordering::SeqCst)), (2, 1));
}

#[test]
fn a_guard_has_the_revocations_that_it_was_told_of() {
    let list = DenyList::new(Duration::from_secs(30));
    list.put(Target::session("s1").unwrap(), Terms { epoch: None, until: Some(u64::MAX) });
    assert!(guard().revocations().is_none());
    let told = JwtGuard::<UserClaims>::new(config().revocations(Revocations::new(Arc::new(list)))).unwrap();
    assert_eq!(told.revocations().map(Revocations::len), Some(1));
}
