//! The command line: one file a verb. Each turns what was typed into a checked plan and calls the library.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What all verbs share: verbosity, JSON, seed, threads.
#[derive(Debug, Clone)]
pub struct Context {
    /// Worker threads (rayon's pool has this size).
    pub threads: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Say nothing but errors and results.
    pub quiet: bool,
    /// Result as one JSON document on stdout.
    pub json: bool,
}

impl Context {
    /// A line of news for the user, on stderr.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    /// A progress bar of `len` steps on stderr; hidden with `--quiet` and when stderr is not a terminal.
    pub fn progress(&self, len: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(
            Some(len),
            if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() },
        );
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:32}] {pos}/{len} {elapsed}<{eta} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(what.to_string());
        bar
    }

    /// The result: `table` for people, or `json` with `--json`. Both go to stdout.
    pub fn result(&self, table: &str, json: &serde_json::Value) {
        if self.json {
            println!("{json}");
        } else {
            println!("{table}");
        }
    }
}
