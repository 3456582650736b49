use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`, which calls code of a handler's author, and contains its panic; returns `None` if it panicked.
///
/// The panic hook has already printed the message.
pub(super) fn contained<R>(work: impl FnOnce() -> R) -> Option<R> {
    let panic = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => return Some(done),
        Err(panic) => panic,
    };
    // The payload of a panic may itself panic when it is dropped. The payload of that second panic is leaked.
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
