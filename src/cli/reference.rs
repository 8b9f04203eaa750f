//! The reference page: all verbs and flags, from the tables that the program itself reads.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::help::{examples, parts};
use crate::train;

const HEAD: &str = "# The command line

All verbs and flags, under the headings that `--help` has. This page is made from the program's own tables: `UPDATE=1 cargo test --release --test program reference` writes it
anew, and the test `reference` fails where it is out of date.
";

const SETTINGS: &str = "
### Settings of `train`

What a run can be told, what it is in each recipe, what is accepted, the place in `run.json`, and whether
`--resume` may change it.

";

/// The page of the whole program.
pub(super) fn page(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut page = HEAD.to_string();
    page += "\n## Flags of every verb\n\n";
    let global: Vec<&Arg> =
        command.get_arguments().filter(|a| a.is_global_set() || a.get_long() == Some("version")).collect();
    rows(&mut page, "flag", &global);
    verbs(&mut page, &command, "");
    page
}

fn verbs(page: &mut String, command: &Command, above: &str) {
    for verb in command.get_subcommands().filter(|v| v.get_name() != "help" && !v.is_hide_set()) {
        let name = format!("{above}{}", verb.get_name());
        let _ = writeln!(page, "\n## `{name}`\n\n{}", verb.get_about().map_or(String::new(), ToString::to_string));
        let typed: Vec<String> = examples(&name).iter().map(|(what, typed)| format!("# {what}\n{typed}\n")).collect();
        if !typed.is_empty() {
            let _ = write!(page, "\n```sh\n{}```\n", typed.concat());
        }
        let own: Vec<&Arg> = verb.get_arguments().filter(|a| !a.is_global_set() && !a.is_hide_set()).collect();
        let heading =
            |a: &Arg| if a.is_positional() { "Arguments" } else { a.get_help_heading().unwrap_or("Flags") }.to_string();
        for group in own.chunk_by(|a, b| heading(a) == heading(b)) {
            *page += "\n";
            rows(page, &heading(group[0]), group);
        }
        if name == "train" {
            settings(page);
        }
        verbs(page, verb, &format!("{name} "));
    }
}

/// A table of flags; `title` heads the first column.
fn rows(page: &mut String, title: &str, args: &[&Arg]) {
    let _ = writeln!(page, "| {title} | what | default |\n| --- | --- | --- |");
    for arg in args {
        let values = arg.get_value_names().unwrap_or_default();
        let values: Vec<String> =
            values.iter().filter(|_| arg.get_action().takes_values()).map(|v| v.to_string()).collect();
        let typed = match arg.get_long() {
            Some(long) => [vec![format!("--{long}")], values].concat().join(" "),
            None => values.join(" "),
        };
        let (text, default, choices) = parts(arg);
        let default = default.trim_start_matches("[default: ").trim_end_matches(']');
        let default = if arg.is_required_set() { "required" } else { default };
        let what = format!("{text} {choices}");
        let _ = writeln!(page, "| {} | {} | {} |", cell(&format!("`{typed}`")), cell(what.trim()), cell(default));
    }
}

fn settings(page: &mut String) {
    let recipes: Vec<_> =
        train::RECIPES.iter().filter_map(|(name, _)| Some((name, train::recipe(name).ok()?))).collect();
    *page += SETTINGS;
    let names: Vec<_> = recipes.iter().map(|(name, _)| format!("`{name}`")).collect();
    let _ = writeln!(page, "| flag | {} | range | `run.json` | `--resume` |", names.join(" | "));
    let _ = writeln!(page, "| --- |{} --- | --- | --- |", " --- |".repeat(names.len()));
    for setting in train::settings() {
        let Some(flag) = setting.flag else { continue };
        let defaults: Vec<_> = recipes.iter().map(|(_, c)| setting.words(c)).collect();
        let rules: Vec<_> = setting.rules.iter().map(|r| r.words).collect();
        let range = if rules.is_empty() { String::new() } else { format!("must {}", rules.join(" and ")) };
        let _ = writeln!(
            page,
            "| `--{}` | {} | {range} | `{}` | {} |",
            flag.name,
            defaults.join(" | "),
            setting.key,
            if setting.may_change { "may change" } else { "" }
        );
    }
}

/// A bar ends a cell, in code too.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
