//! How cases are run and what comes of each.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::support::soon;

/// A case of a category whose cases share a `W`: a server with what runs on it.
pub(super) struct Case<W> {
    pub(super) id: &'static str,
    pub(super) run: for<'a> fn(&'a W) -> LocalBoxFuture<'a, ()>,
}

/// The cases of a category: `cases![World; "id" => function, …]`.
macro_rules! cases {
    ($($id:literal => $run:path),* $(,)?) => {
        vec![$($crate::attacks::harness::Case { id: $id, run: |world| Box::pin($run(world)) }),*]
    };
}
pub(super) use cases;

/// What came of a case.
pub(super) struct Outcome {
    pub(super) id: &'static str,
    pub(super) verdict: Verdict,
    pub(super) took: Duration,
}

impl Outcome {
    /// That of a case which did not have to be run.
    pub(super) fn of(id: &'static str, verdict: Verdict) -> Self {
        Self { id, verdict, took: Duration::ZERO }
    }
}

pub(super) enum Verdict {
    /// So many attempts were refused, so many controls passed.
    Held {
        refused: u32,
        passed: u32,
    },
    NotApplicable(&'static str),
    Failed(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { refused, passed } => f.pad(&format!("ok: {refused} refused, {passed} passed")),
            Self::NotApplicable(why) => f.pad(&format!("not applicable: {why}")),
            Self::Failed(why) => f.pad(&format!("FAILED: {why}")),
        }
    }
}

#[derive(Default)]
struct Tally {
    refused: Cell<u32>,
    passed: Cell<u32>,
}

tokio::task_local! {
    static TALLY: Tally;
}

/// Takes note that an attempt of the present case was refused, as it should be.
pub(super) fn refused() {
    TALLY.with(|tally| tally.refused.set(tally.refused.get() + 1));
}

/// Takes note that a control of the present case passed, as it should.
pub(super) fn passed() {
    TALLY.with(|tally| tally.passed.set(tally.passed.get() + 1));
}

/// The part of the cases that is wanted, if not all are.
pub(super) fn wanted() -> Option<String> {
    std::env::var("ATTACKS").ok().filter(|part| !part.is_empty())
}

/// Whether the case `id` is to be run.
pub(super) fn is_wanted(id: &str) -> bool {
    wanted().is_none_or(|part| id.starts_with(&part))
}

/// Runs a category's cases one after the other, on a world of their own.
pub(super) async fn run<W>(world: impl AsyncFnOnce() -> W, cases: Vec<Case<W>>) -> Vec<Outcome> {
    let cases: Vec<_> = cases.into_iter().filter(|case| is_wanted(case.id)).collect();
    if cases.is_empty() {
        return Vec::new();
    }
    let world = soon(Box::pin(world())).await;
    let mut outcomes = Vec::new();
    for Case { id, run } in cases {
        let case = async {
            let ended = AssertUnwindSafe(run(&world)).catch_unwind().await;
            let (refused, passed) = TALLY.with(|tally| (tally.refused.get(), tally.passed.get()));
            match ended {
                Err(panic) => Verdict::Failed(text(&*panic)),
                Ok(()) if refused == 0 || passed == 0 => {
                    Verdict::Failed(format!("{refused} refused and {passed} passed prove nothing"))
                }
                Ok(()) => Verdict::Held { refused, passed },
            }
        };
        let started = Instant::now();
        let verdict = TALLY.scope(Tally::default(), case).await;
        outcomes.push(Outcome { id, verdict, took: started.elapsed() });
    }
    outcomes
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without text").to_owned()
}
