//! A verb called from inside another process, such as an interpreter: its words come as a list, its news, progress and result
//! go to whoever calls, and nothing of the process is touched (no signals, no standard output, no global threads).

use std::ffi::OsString;
use std::sync::Arc;

use clap::FromArgMatches;

use super::caller::Caller;
use super::context::Context;
use super::{Cli, dispatch, one_line};
use crate::data::source::Held;
use crate::error::{Error, Result};

/// Runs a verb: `words` are those behind the name of the program. Where a path is asked for, the name of one of the data `held`
/// in memory stands for it (`prepare --rna`, `--atac`).
///
/// # Errors
/// What the verb ends with; [`Error::Interrupted`] with code 130 after [`Caller::stop`]; a wrong word is [`Error::Usage`].
pub fn call(words: &[OsString], caller: Arc<dyn Caller>, held: Vec<Held>) -> Result<()> {
    let command = super::command();
    let words = std::iter::once(OsString::from("sccrossrec")).chain(words.iter().cloned()).collect();
    let words = super::config::expand(words, &command)?;
    let cli = command
        .try_get_matches_from(&words)
        .and_then(|m| Cli::from_arg_matches(&m))
        .map_err(|e| Error::usage(super::said(&e)))?;
    let mut ctx = Context::of(&cli.common);
    ctx.json = true;
    ctx.caller = Some(caller);
    ctx.held = held;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(ctx.threads)
        .thread_name(|i| format!("sccrossrec-{i}"))
        .build()
        .map_err(|e| {
            Error::usage(format!("--threads {}: the system does not start so many ({e}); take fewer", ctx.threads))
        })?;
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.install(|| dispatch(&cli.verb, &ctx))));
    ended.unwrap_or_else(|payload| Err(Error::Internal(one_line(super::panic_text(&*payload)))))
}

/// A flag of a verb, as the help shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Flag {
    /// Its name, without `--`.
    pub name: String,
    /// Does a value follow?
    pub value: bool,
    /// May it come several times, or hold several values?
    pub many: bool,
    /// What it is where it is not given, as the help shows it; `None` where that shows none.
    pub default: Option<String>,
    /// What it does, in a line.
    pub help: String,
}

/// The flags of a verb, those that all verbs have behind its own; `None` where there is no such verb. Words of a verb that has
/// verbs are parted by blanks: `plot arcs`.
pub fn flags(verb: &str) -> Option<Vec<Flag>> {
    let mut command = super::command();
    command.build();
    let verb = verb.split_whitespace().try_fold(&command, |at, word| at.find_subcommand(word))?;
    let of = |arg: &clap::Arg| {
        let help = arg.get_help().map(|h| one_line(&h.to_string())).unwrap_or_default();
        let shown = help.rfind("[default: ").map(|at| help[at + 10..].trim_end_matches(']').to_string());
        let typed: Vec<String> = arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
        let value = arg.get_action().takes_values();
        Some(Flag {
            name: arg.get_long()?.to_string(),
            value,
            many: matches!(arg.get_action(), clap::ArgAction::Append) || arg.get_value_delimiter().is_some(),
            default: shown.or_else(|| (value && !typed.is_empty()).then(|| typed.join(","))),
            help,
        })
    };
    Some(verb.get_arguments().filter(|a| !matches!(a.get_id().as_str(), "help" | "version")).filter_map(of).collect())
}
