//! Who calls a verb from inside another process: see [`call`](super::call()).

use std::fmt::Debug;

/// Who calls a verb, and follows it. Called from several threads.
pub trait Caller: Debug + Send + Sync {
    /// A line of news.
    fn say(&self, line: &str);

    /// Of `of` units of a stage `done` are done; with `of` 0 nobody knows how many there are.
    fn at(&self, stage: &str, done: u64, of: u64);

    /// The result of the verb.
    fn result(&self, result: &serde_json::Value);

    /// Is the work to stop? Asked once a step.
    fn stop(&self) -> bool;
}
