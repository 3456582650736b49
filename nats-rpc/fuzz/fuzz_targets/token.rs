#![no_main]
//! A token of any text: never a panic, and never a way in.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nats_rpc::{JwtConfig, JwtGuard, SecretKey, UserClaims};

static GUARD: LazyLock<JwtGuard<UserClaims>> = LazyLock::new(|| {
    let secret = SecretKey::new("JWT_SECRET", "a secret that the fuzzer is not told 0123456789").expect("a secret");
    JwtGuard::new(JwtConfig::nest_compatible(secret)).expect("a guard")
});

fuzz_target!(|token: &str| {
    assert!(GUARD.verify(token).is_err());
});
