//! `man`: manual pages, made from the verbs and flags themselves.

use std::path::PathBuf;

use clap::Command;
use clap_mangen::Man;

use super::context::{Context, output_dir};
use super::help::examples;
use crate::error::{Error, Result};
use crate::files::atomic::write_text;

/// Flags of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for a page of each verb [default: the main page on standard output]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace files of the same name in --out
    #[arg(long, requires = "out")]
    force: bool,
}

/// The page of one verb, in the language of `man`.
fn page(command: &Command, path: &str) -> Result<String> {
    let name = format!("sccrossrec {path}").trim().replace(' ', "-");
    let mut told = String::new();
    for (what, typed) in examples(path) {
        told += &format!("{what}:\n\n    {typed}\n\n");
    }
    // A page has all flags, each with what it does.
    let whole = command.clone().mut_args(|a| a.hide_short_help(false));
    let mut command = whole.name(name.clone()).bin_name(name.replace('-', " "));
    if !told.is_empty() {
        command = command.after_long_help(format!("Examples\n\n{told}"));
    }
    let mut page = Vec::new();
    let made = Man::new(command).title(&name).manual("sccrossrec").render(&mut page);
    made.map_err(|e| Error::Internal(format!("manual page {name}: {e}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Every verb and the pages' names without `.1`, the main one first.
fn pages(command: &Command, path: &str, out: &mut Vec<(String, String)>) -> Result<()> {
    let name = format!("sccrossrec {path}").trim().replace(' ', "-");
    out.push((name, page(command, path)?));
    for verb in command.get_subcommands().filter(|v| v.get_name() != "help" && !v.is_hide_set()) {
        pages(verb, format!("{path} {}", verb.get_name()).trim(), out)?;
    }
    Ok(())
}

/// Prints or writes.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let mut command = super::command();
    command.build();
    let Some(out) = &args.out else {
        let main = page(&command, "")?;
        ctx.result(&main, &serde_json::json!({ "page": main }));
        return Ok(());
    };
    let mut all = Vec::new();
    pages(&command, "", &mut all)?;
    let _made = output_dir(out, args.force)?;
    for (name, text) in &all {
        write_text(&out.join(format!("{name}.1")), text)?;
    }
    let names: Vec<&String> = all.iter().map(|p| &p.0).collect();
    ctx.result(
        &format!("{} pages in {}", all.len(), out.display()),
        &serde_json::json!({ "out": out, "pages": names }),
    );
    ctx.next("", &format!("man -l {}", crate::error::quoted(&out.join("sccrossrec.1"))));
    Ok(())
}
