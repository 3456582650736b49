//! The attacks on passwords, each named by its id.

use std::time::{Duration, Instant};

use super::*;

fn passwords() -> PasswordHasher {
    PasswordHasher::new(PasswordConfig::default().cost(10)).unwrap()
}

#[tokio::test]
async fn a_hash_verifies_its_own_password_alone() {
    let passwords = passwords();
    let hash = passwords.hash(Password::parse("correct horse").unwrap()).await.unwrap();
    assert!(hash.starts_with("$2b$10$"));
    assert!(passwords.verify("correct horse", Some(&hash)).await.unwrap());
    assert!(!passwords.verify("correct horsf", Some(&hash)).await.unwrap());
    assert!(!passwords.verify("correct horse", None).await.unwrap());
}

#[tokio::test]
async fn password_01_nothing_is_cut_off() {
    for bytes in [72, 73, 100, 10_000] {
        assert_eq!(Password::parse(&"a".repeat(bytes)).unwrap_err(), PasswordError::TooLong, "{bytes}");
    }
    // 36 characters of two bytes are 72 bytes.
    assert_eq!(Password::parse(&"é".repeat(36)).unwrap_err(), PasswordError::TooLong);
    let longest = "a".repeat(71);
    let passwords = passwords();
    let hash = passwords.hash(Password::parse(&longest).unwrap()).await.unwrap();
    assert!(passwords.verify(&longest, Some(&hash)).await.unwrap());
    for other in ["a".repeat(70), format!("{}b", "a".repeat(70)), "a".repeat(72), "a".repeat(71) + "SECRET"] {
        assert!(!passwords.verify(&other, Some(&hash)).await.unwrap(), "{}", other.len());
    }
}

#[tokio::test]
async fn password_02_13_nul_and_empty_never_reach_bcrypt() {
    for wrong in ["12345678\0", "\0\0\0\0\0\0\0\0", "12345678\x0012345678"] {
        assert_eq!(Password::parse(wrong).unwrap_err(), PasswordError::Nul, "{wrong:?}");
    }
    assert_eq!(Password::parse("").unwrap_err(), PasswordError::TooShort);
    let passwords = passwords();
    let cyclic = bcrypt::hash("12345678", 10).unwrap();
    // bcrypt alone accepts this.
    assert!(bcrypt::verify("12345678\x0012345678", &cyclic).unwrap());
    assert!(!passwords.verify("12345678\x0012345678", Some(&cyclic)).await.unwrap());
    assert!(passwords.verify("12345678", Some(&cyclic)).await.unwrap());
    let empty = bcrypt::hash("", 10).unwrap();
    for wrong in ["", "\0"] {
        assert!(!passwords.verify(wrong, Some(&empty)).await.unwrap(), "{wrong:?}");
    }
}

/// Hashes a password as Node's bcrypt does: its bytes unchanged, of which it reads 72.
fn node_hash(password: &str) -> String {
    bcrypt::hash(&password.as_bytes()[..password.len().min(72)], 10).unwrap().replacen("$2b$", "$2a$", 1)
}

#[tokio::test]
async fn hashes_of_other_programs_verify_and_are_told_apart() {
    let passwords = passwords();
    let check = async |password: &str, stored: &str| {
        let mut permit = passwords.admit(&HashRequest::new(HashPriority::Quiet)).await.unwrap();
        permit.verify(password, Some(stored)).await.unwrap()
    };
    let long = "a long password of another system ".repeat(3);
    let decomposed = "cafe\u{301} noir";
    for migrated in [&long, &"x".repeat(72), decomposed, &format!("{decomposed}{}", "y".repeat(70))] {
        assert_eq!(check(migrated, &node_hash(migrated)).await, PasswordMatch::Migrated, "{migrated}");
        assert_eq!(check(&format!("?{migrated}"), &node_hash(migrated)).await, PasswordMatch::Wrong, "{migrated}");
        // After hashing it again, the whole password counts.
        let own = passwords.hash(Password::existing(migrated).unwrap()).await.unwrap();
        assert_eq!(check(migrated, &own).await, PasswordMatch::Right, "{migrated}");
        assert_eq!(check(&format!("{migrated}?"), &own).await, PasswordMatch::Wrong, "{migrated}");
    }
    // A short one, and one of a length that we accept.
    for same in ["secret", "correct horse"] {
        assert_eq!(check(same, &node_hash(same)).await, PasswordMatch::Right, "{same}");
    }
    // After hashing it again, another spelling of the same letters is the same password.
    let own = passwords.hash(Password::existing(decomposed).unwrap()).await.unwrap();
    assert_eq!(check("caf\u{e9} noir", &own).await, PasswordMatch::Right);
}

#[test]
fn a_long_password_is_hashed_as_a_digest_of_its_own() {
    let long = "x".repeat(72);
    let own = Password::existing(&long).unwrap();
    assert!(own.0.len() == 43 && *own.0 != URL_SAFE_NO_PAD.encode(Sha256::digest(&long)));
    assert_eq!(*Password::existing(&"x".repeat(71)).unwrap().0, "x".repeat(71));
    for never in ["", "a\0b", &"x".repeat(MOST_BYTES + 1)] {
        assert!(Password::existing(never).is_none() && Password::candidates(never).is_empty());
    }
    assert_eq!(Password::candidates("correct horse").len(), 1, "one bcrypt for an ordinary password");
}

#[tokio::test]
async fn password_04_two_spellings_of_one_letter_are_one_password() {
    let passwords = passwords();
    let hash = passwords.hash(Password::parse("caf\u{e9} noir").unwrap()).await.unwrap();
    assert!(passwords.verify("cafe\u{301} noir", Some(&hash)).await.unwrap());
    assert!(!passwords.verify("cafe noir", Some(&hash)).await.unwrap());
}

#[test]
fn length_counts_after_normalisation() {
    // 24 × (e, combining acute) is 72 bytes as written and 48 normalised.
    assert!(Password::parse(&"e\u{301}".repeat(24)).is_ok());
    // U+1D160 becomes three code points of four bytes each.
    assert_eq!(Password::parse(&"\u{1d160}".repeat(6)).unwrap_err(), PasswordError::TooLong);
    // The sign of the unit kelvin is three bytes as written and a K normalised.
    assert!(Password::parse(&"\u{212a}".repeat(71)).is_ok());
    assert_eq!(Password::parse(&"\u{212a}".repeat(72)).unwrap_err(), PasswordError::TooLong);
    assert_eq!(Password::parse("1234567").unwrap_err(), PasswordError::TooShort);
    assert!(Password::parse("12345678").is_ok());
}

#[tokio::test]
async fn password_08_a_malformed_or_ruinous_stored_hash_is_nobodys() {
    let passwords = passwords();
    let good = bcrypt::hash("correct horse", 10).unwrap();
    let cost = |cost: &str| good.replacen("$10$", &format!("${cost}$"), 1);
    let malformed = [
        // The right password, but with a lower cost than any stored hash. It comes first, because accepting it means
        // accepting all.
        bcrypt::hash("correct horse", 4).unwrap(),
        String::new(),
        cost("31"),
        cost("16"),
        cost("99"),
        cost("+9"),
        cost("04"),
        cost("07"),
        cost("00"),
        cost("1"),
        good.replace("$2b$", "$1$"),
        good.replacen('$', "é", 1),
        good[..59].to_owned(),
        good.clone() + "a",
        "plain text password".to_owned(),
        "é".repeat(30),
    ];
    for stored in malformed {
        let start = Instant::now();
        assert!(!passwords.verify("correct horse", Some(&stored)).await.unwrap(), "{stored}");
        assert!(start.elapsed() < Duration::from_secs(20), "{stored}");
    }
    for (stored, version) in ["2a", "2b", "2x", "2y"].map(|v| (good.replace("$2b$", &format!("${v}$")), v)) {
        assert!(passwords.verify("correct horse", Some(&stored)).await.unwrap(), "{version}");
    }
}

#[test]
fn password_05_the_decoy_costs_what_a_stored_hash_does() {
    for cost in COSTS {
        let decoy = decoy(cost).unwrap();
        assert!(is_usable(&decoy), "{decoy}");
        assert_eq!(decoy.parse::<bcrypt::HashParts>().unwrap().get_cost(), cost);
    }
}

#[test]
fn password_05_a_wrong_password_costs_what_the_dearest_does_that_was_met() {
    let passwords = PasswordHasher::new(PasswordConfig::default().cost(12)).unwrap();
    let decoy = passwords.0.decoy.clone();
    let work = |stored: u32| -> u64 {
        let hash = at_cost(&decoy, stored);
        let rest = passwords.0.rest(&hash);
        assert!(rest.iter().all(|hash| is_usable(hash)));
        rest.iter().chain([&hash]).map(|hash| 1_u64 << cost_of(hash).unwrap()).sum()
    };
    for stored in 8..=12 {
        assert_eq!(work(stored), 1 << 12, "{stored}");
    }
    // A hash from a time of higher cost: from now on every check costs as much, including the decoy of unknown users.
    assert_eq!(work(14), 1 << 14);
    for stored in 8..=14 {
        assert_eq!(work(stored), 1 << 14, "{stored}");
    }
}

#[test]
fn password_05_only_a_wrong_password_is_filled_up() {
    let verified = |candidates: &[&'static str]| {
        let seen = std::cell::RefCell::new(Vec::new());
        let verify = |candidate: &&'static str, hash: &str| {
            seen.borrow_mut().push(format!("{candidate} {hash}"));
            *candidate == hash
        };
        let matches = matches(candidates, "stored", &["rest".to_owned(), "more".to_owned()], verify);
        (matches, seen.into_inner().join(", "))
    };
    assert_eq!(verified(&["stored"]), (Some(0), "stored stored".to_owned()));
    assert_eq!(verified(&["a"]), (None, "a stored, a rest, a more".to_owned()));
    assert_eq!(verified(&["a", "stored"]), (Some(1), "a stored, stored stored".to_owned()));
    assert_eq!(verified(&["a", "b"]), (None, "a stored, b stored, a rest, b rest, a more, b more".to_owned()));
}

#[tokio::test]
async fn a_password_stored_at_an_earlier_cost_is_verified_as_ever() {
    let passwords = PasswordHasher::new(PasswordConfig::default().cost(10)).unwrap();
    let earlier = bcrypt::hash("correct horse", 8).unwrap();
    assert!(passwords.verify("correct horse", Some(&earlier)).await.unwrap());
    assert!(!passwords.verify("incorrect horse", Some(&earlier)).await.unwrap());
    assert!(passwords.is_weak(&earlier) && !passwords.is_weak(&bcrypt::hash("correct horse", 10).unwrap()));
}

#[test]
fn the_cost_stays_within_10_to_15() {
    for (asked, given) in [(0, 10), (9, 10), (10, 10), (12, 12), (15, 15), (31, 15)] {
        assert_eq!(PasswordConfig::default().cost(asked).cost, given);
    }
    assert_eq!(PasswordConfig::default().cost, 12);
}

#[test]
fn each_setting_is_set_beside_the_others() {
    let workers = NonZeroUsize::new(7).unwrap();
    let PasswordConfig { cost, workers, queue } = PasswordConfig::default().cost(11).workers(workers).queue(5);
    assert_eq!((cost, workers.get(), queue), (11, 7, 5));
    let default = PasswordConfig::default().queue(33).workers(workers).cost(10);
    assert_eq!((default.cost, default.workers.get(), default.queue), (10, 7, 33));
}

#[test]
fn a_stored_hash_is_usable_if_it_is_one_and_does_not_ruin() {
    let stored = decoy(12).unwrap();
    assert!(PasswordHasher::is_usable(&stored));
    assert!(!PasswordHasher::is_usable(&at_cost(&stored, 31)) && !PasswordHasher::is_usable("plain text"));
}

#[test]
fn passwords_are_not_printed() {
    let printed = format!("{:?} {:?}", Password::parse("correct horse"), Password::parse("horse"));
    assert!(!printed.contains("horse"), "{printed}");
}
