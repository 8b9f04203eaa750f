//! `completions`: what a shell needs to complete verbs and flags.

use clap_complete::{Shell, generate};

use super::context::Context;
use crate::error::Result;

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut super::command(), "sccrossrec", &mut script);
    let script = String::from_utf8_lossy(&script);
    ctx.result(&script, &serde_json::json!({ "shell": args.shell.to_string(), "script": script }));
    Ok(())
}
