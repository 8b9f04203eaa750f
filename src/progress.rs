//! How long work tells where it is, and is asked whether to go on.

/// Where news and progress go.
#[derive(Clone, Copy)]
pub struct Hooks<'a> {
    /// A line of news.
    pub say: &'a (dyn Fn(&str) + Sync),
    /// Progress: stage, steps done, steps in all.
    pub step: &'a (dyn Fn(&'static str, u64, u64) + Sync),
}

impl Default for Hooks<'_> {
    /// Says nothing.
    fn default() -> Self {
        Hooks { say: &|_| {}, step: &|_, _, _| {} }
    }
}
