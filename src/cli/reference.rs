//! The reference page: all verbs and flags, from the tables that the program itself reads.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::train;

const HEAD: &str = "# Reference

All verbs and flags. This page is made from the program's own tables: `UPDATE=1 cargo test --release --test program reference` writes it
anew, and the test `reference` fails where it is out of date.
";

const SETTINGS: &str = "
### Settings of `train`

What a run can be told, with the value in each recipe, what is accepted, the place in `run.json`, and whether
`--resume` may change it.

";

/// The page of the whole program.
pub(super) fn page(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut page = HEAD.to_string();
    page += "\n## Flags of every verb\n\n";
    flags(&mut page, command.get_arguments().filter(|a| !own(a)));
    verbs(&mut page, &command, "");
    page
}

fn verbs(page: &mut String, command: &Command, above: &str) {
    for verb in command.get_subcommands().filter(|v| v.get_name() != "help") {
        let name = format!("{above}{}", verb.get_name());
        let _ = writeln!(page, "\n## `{name}`\n\n{}\n", verb.get_about().map_or(String::new(), ToString::to_string));
        flags(page, verb.get_arguments().filter(|a| !a.is_global_set() && !own(a)));
        if name == "train" {
            settings(page);
        }
        verbs(page, verb, &format!("{name} "));
    }
}

/// Flags that clap has of its own.
fn own(arg: &Arg) -> bool {
    ["help", "version"].contains(&arg.get_id().as_str())
}

fn flags<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let mut args = args.filter(|a| !a.is_hide_set()).peekable();
    if args.peek().is_none() {
        return;
    }
    *page += "| flag | what |\n| --- | --- |\n";
    for arg in args {
        let values = arg.get_value_names().unwrap_or_default();
        let values: Vec<String> =
            values.iter().filter(|_| arg.get_action().takes_values()).map(|v| v.to_string()).collect();
        let typed = match arg.get_long() {
            Some(long) => [vec![format!("--{long}")], values].concat().join(" "),
            None => values.join(" "),
        };
        let mut what = arg.get_help().map_or(String::new(), ToString::to_string);
        let choices: Vec<_> = arg.get_possible_values().iter().map(|v| v.get_name().to_string()).collect();
        if arg.get_action().takes_values() && !choices.is_empty() {
            what += &format!("; one of {}", choices.join(", "));
        }
        if arg.is_required_set() {
            what += "; required";
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
        if arg.get_action().takes_values() && !defaults.is_empty() {
            what += &format!(" [default: {}]", defaults.join(", "));
        }
        let _ = writeln!(page, "| {} | {} |", cell(&format!("`{typed}`")), cell(&what));
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
