//! Properties of every subject and every pattern.

use proptest::prelude::*;

use super::*;

/// Uses few distinct tokens, so that subjects and patterns often match.
fn subject() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..6).prop_map(|tokens| tokens.join("."))
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let tokens = proptest::collection::vec(prop::sample::select(vec!["a", "b", "*", "{x}"]), 1..5);
    (tokens, any::<bool>()).prop_map(|(mut tokens, open)| {
        // Each parameter may occur once.
        let mut seen = false;
        for token in &mut tokens {
            if *token == "{x}" && std::mem::replace(&mut seen, true) {
                *token = "*";
            }
        }
        if open {
            tokens.push(">");
        }
        Pattern::parse(&tokens.join(".")).expect("it is made of valid tokens")
    })
}

/// A pattern that matches `subject`: some tokens are replaced by `*`, and perhaps the last ones by `>`.
fn generalised(subject: &str) -> impl Strategy<Value = Pattern> + use<> {
    let tokens: Vec<String> = subject.split('.').map(str::to_owned).collect();
    let (stars, open) = (proptest::collection::vec(any::<bool>(), tokens.len()), prop::option::of(0..tokens.len()));
    (Just(tokens), stars, open).prop_map(|(mut tokens, stars, open)| {
        for (token, _) in tokens.iter_mut().zip(stars).filter(|(_, star)| *star) {
            *token = "*".to_owned();
        }
        if let Some(open) = open {
            tokens.truncate(open);
            tokens.push(">".to_owned());
        }
        Pattern::parse(&tokens.join(".")).expect("it is made of valid tokens")
    })
}

/// Matching as the NATS documentation defines it, without optimization.
fn matches_by_the_book(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => matches_by_the_book(pattern, subject),
        ([wanted, pattern @ ..], [given, subject @ ..]) => wanted == given && matches_by_the_book(pattern, subject),
        _ => false,
    }
}

/// Returns a subject that matches both, if their tokens allow one.
fn common_subject(one: &[&str], other: &[&str]) -> Option<Vec<String>> {
    let (head, rest) = match (one, other) {
        ([], []) => return Some(Vec::new()),
        ([">"], [">"]) => return Some(vec!["a".to_owned()]),
        ([">"], [token, rest @ ..]) | ([token, rest @ ..], [">"]) => {
            // `>` matches one token and, if more follow, those too.
            let rest = if rest.is_empty() { Some(Vec::new()) } else { common_subject(&[">"], rest) };
            (literal(token), rest)
        }
        (["*", ours @ ..], [token, theirs @ ..]) | ([token, ours @ ..], ["*", theirs @ ..]) => {
            (literal(token), common_subject(ours, theirs))
        }
        ([a, ours @ ..], [b, theirs @ ..]) if a == b => (literal(a), common_subject(ours, theirs)),
        _ => return None,
    };
    rest.map(|rest| [vec![head], rest].concat())
}

fn literal(token: &str) -> String {
    if matches!(token, "*" | ">") { "a".to_owned() } else { token.to_owned() }
}

fn tokens(text: &str) -> Vec<&str> {
    text.split('.').collect()
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC{0,12}|[ab.*>{}\"$ \r\n]{0,12}|.{0,8}") {
        let _ = Subject::new(&text);
        let _ = Pattern::parse(&text);
    }

    #[test]
    fn what_is_accepted_cannot_break_a_line_of_the_protocol(text in "[ab.*>{}\"$ \r\n\t\u{85}\u{a0}]{0,12}|.{0,8}") {
        let subject = Subject::new(&text).ok().map(|subject| subject.as_str().to_owned());
        let pattern = Pattern::parse(&text).ok().map(|pattern| pattern.subject().to_owned());
        for accepted in [subject, pattern].into_iter().flatten() {
            prop_assert!(!accepted.is_empty() && accepted.len() <= MAX_SUBJECT_LEN);
            prop_assert!(!accepted.contains(|c: char| c.is_whitespace() || c.is_control()));
            prop_assert!(accepted.split('.').all(|token| !token.is_empty()));
        }
    }

    #[test]
    fn what_a_pattern_subscribes_to_is_a_pattern_again(pattern in pattern()) {
        let again = Pattern::parse(pattern.subject()).unwrap();
        prop_assert_eq!(again.subject(), pattern.subject());
    }

    #[test]
    fn matching_is_by_the_book(pattern in pattern(), subject in subject()) {
        prop_assert_eq!(pattern.matches(&subject), matches_by_the_book(&tokens(pattern.subject()), &tokens(&subject)));
    }

    #[test]
    fn patterns_overlap_exactly_if_a_subject_matches_both(one in pattern(), other in pattern()) {
        prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
        match common_subject(&tokens(one.subject()), &tokens(other.subject())) {
            Some(common) => {
                let common = common.join(".");
                prop_assert!(one.matches(&common) && other.matches(&common), "{}", common);
                prop_assert!(one.overlaps(&other), "{}", common);
            }
            None => prop_assert!(!one.overlaps(&other)),
        }
    }

    #[test]
    fn a_subject_that_matches_both_is_an_overlap(
        (subject, one, other) in subject().prop_flat_map(|subject| {
            let (one, other) = (generalised(&subject), generalised(&subject));
            (Just(subject), one, other)
        }),
    ) {
        prop_assert!(one.matches(&subject) && other.matches(&subject));
        prop_assert!(one.overlaps(&other));
    }

    #[test]
    fn a_prefix_moves_pattern_and_subject_alike(pattern in pattern(), subject in subject(), prefix in subject()) {
        let below = pattern.clone().prefixed(&Subject::new(&prefix).unwrap());
        prop_assert_eq!(below.matches(&format!("{prefix}.{subject}")), pattern.matches(&subject));
        for parameter in below.params() {
            prop_assert_eq!(tokens(below.subject())[parameter.token], "*");
        }
    }
}
