//! `--config FILE.toml`: flags from a file. What is typed wins.
//!
//! Top-level keys are the common flags; a table named after a verb (`[train]`, `[weights.export]`) holds that verb's.
//! Keys are the long flags without the dashes. Tables of other verbs are checked and not used.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, Command};

use crate::error::{Error, Result};

/// `argv` with the flags of the `--config` file added, if it names one; a flag that was typed is not added.
pub(super) fn expand(argv: Vec<OsString>, command: &Command) -> Result<Vec<OsString>> {
    // A lenient first reading: what is missing or wrong is the second reading's to report.
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(&argv) else { return Ok(argv) };
    let mut path = Vec::new();
    let mut leaf = &matches;
    while let Some((name, sub)) = leaf.subcommand() {
        path.push(name.to_string());
        leaf = sub;
    }
    let Some(file) = leaf.try_get_one::<PathBuf>("config").ok().flatten().cloned() else { return Ok(argv) };
    let text = std::fs::read_to_string(&file).map_err(|e| Error::io(&file, "read", e))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map_or(0, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        Error::input(&file, format!("line {line} is not TOML: {}", e.message().replace('\n', ", ")), "mend that line")
    })?;

    let mut flags = Vec::new();
    collect(&file, command, &table, &mut Vec::new(), &path, leaf, &mut flags)?;
    let end = argv.iter().position(|a| a == OsStr::new("--")).unwrap_or(argv.len());
    let mut out = argv;
    out.splice(end..end, flags);
    Ok(out)
}

/// Adds the flags of `table`, which belongs to `command` (reached by `at`), where `verb` starts with `at`.
fn collect(
    file: &Path,
    command: &Command,
    table: &toml::Table,
    at: &mut Vec<String>,
    verb: &[String],
    typed: &clap::ArgMatches,
    out: &mut Vec<OsString>,
) -> Result<()> {
    let applies = at.is_empty() || at == verb;
    for (key, value) in table {
        let shown = if at.is_empty() { key.clone() } else { format!("{}.{key}", at.join(".")) };
        if let toml::Value::Table(inner) = value {
            let Some(sub) = command.find_subcommand(key) else {
                return Err(Error::input(
                    file,
                    format!("unknown table `[{shown}]`"),
                    "tables are named after verbs, as in `[train]`",
                ));
            };
            at.push(sub.get_name().to_string());
            collect(file, sub, inner, at, verb, typed, out)?;
            at.pop();
            continue;
        }
        let called = |a: &&clap::Arg| {
            a.get_long() == Some(key) || a.get_all_aliases().is_some_and(|all| all.contains(&key.as_str()))
        };
        let known =
            command.get_arguments().find(called).filter(|_| !["config", "help", "version"].contains(&key.as_str()));
        let Some(arg) = known else {
            let place = if at.is_empty() { "the common flags" } else { "this verb's flags" };
            return Err(Error::input(
                file,
                format!("unknown key `{shown}`"),
                format!("keys here are {place} without the dashes (see --help)"),
            ));
        };
        let flag = matches!(arg.get_action(), ArgAction::SetTrue);
        let given = typed.try_contains_id(arg.get_id().as_str()).unwrap_or(false)
            && typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let wrong = |needed: &str| {
            Err(Error::input(file, format!("`{shown}` is {}", value.type_str()), format!("it must be {needed}")))
        };
        let mut words = Vec::new();
        match value {
            toml::Value::Boolean(true) if flag => {}
            toml::Value::Boolean(false) if flag => continue,
            _ if flag => return wrong("true or false"),
            toml::Value::Array(items) => {
                for item in items {
                    match word(item) {
                        Some(w) => words.push(w),
                        None => return wrong("a list of strings or numbers"),
                    }
                }
            }
            other => match word(other) {
                Some(w) => words.push(w),
                None => return wrong("a string or a number"),
            },
        }
        if applies && !given {
            if flag {
                out.push(format!("--{key}").into());
            }
            out.extend(words.into_iter().map(|w| OsString::from(format!("--{key}={w}"))));
        }
    }
    Ok(())
}

fn word(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Integer(i) => Some(i.to_string()),
        toml::Value::Float(x) => Some(x.to_string()),
        _ => None,
    }
}
