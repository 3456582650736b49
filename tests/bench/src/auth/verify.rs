//! One verification: of a new token, and of a cached one.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use nats_rpc_jwt::JwtGuard;
use serde::Serialize;

use super::micros;
use super::tokens::Signer;

const TOKENS: usize = 300;
const ROUNDS: usize = 9;

#[derive(Debug, Serialize)]
pub(super) struct Verification {
    pub(super) algorithm: &'static str,
    pub(super) first_us: f64,
    pub(super) known_us: f64,
}

/// Measures the best round of each algorithm, because disturbances only add time.
pub(super) fn measure() -> Result<Vec<Verification>, Box<dyn Error>> {
    Signer::all()?.iter().map(of).collect()
}

fn of(signer: &Signer) -> Result<Verification, Box<dyn Error>> {
    let tokens: Vec<String> = (0..TOKENS).map(|n| signer.sign(&format!("user {n}"))).collect::<Result<_, _>>()?;
    let (mut first_us, mut known_us) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        // A new guard has an empty cache.
        let guard: JwtGuard = JwtGuard::new(signer.config()?)?;
        let pass = || -> Result<f64, Box<dyn Error>> {
            let start = Instant::now();
            for token in &tokens {
                black_box(guard.verify(token)?);
            }
            Ok(micros(start) / TOKENS as f64)
        };
        first_us = first_us.min(pass()?);
        known_us = known_us.min(pass()?);
    }
    Ok(Verification { algorithm: signer.algorithm, first_us, known_us })
}
