//! Rejected code: one mistake in each file of `ui`, one error for each mistake.
//!
//! The first run compiles the dependencies into a target folder of its own, which takes a minute or more.

#[test]
fn mistakes_are_reported_on_their_span() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
