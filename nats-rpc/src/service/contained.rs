use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`, which runs code of a handler's author, and keeps its panic from the loop; `None` if it did.
///
/// The panic hook has printed the message by then.
pub(super) fn contained<R>(work: impl FnOnce() -> R) -> Option<R> {
    let panic = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => return Some(done),
        Err(panic) => panic,
    };
    // What a panic carries may itself panic when it is dropped. What that second one carries is left alone.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(second);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_here_even_if_what_it_carries_panics_too() {
        struct Bomb;

        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Bomb);
            }
        }

        assert_eq!(contained(|| 7), Some(7));
        assert_eq!(contained(|| panic!("plain")), None::<()>);
        assert_eq!(contained(|| std::panic::panic_any(Bomb)), None::<()>);
    }
}
