//! `check`: are the data good enough? Traffic lights in words, before training.

use std::path::PathBuf;

use serde_json::json;

use super::context::Context;
use super::terminal::colour_of_stdout;
use crate::error::{Error, Result, quoted};
use crate::evaluate::health::{Finding, Light, health};

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data set: the --out folder of `prepare`
    #[arg(value_name = "DATA", required_unless_present = "named")]
    data: Option<PathBuf>,
    /// The same, as other verbs take it
    #[arg(long = "data", value_name = "DATA", id = "named", hide = true, conflicts_with = "data")]
    named: Option<PathBuf>,
}

/// Prints the lights.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let dir = args.data.as_ref().or(args.named.as_ref()).ok_or_else(|| Error::usage("check needs a data set"))?;
    if dir.is_file() {
        return Err(Error::input(
            dir,
            "is a file, not a data set",
            "look into it with `sccrossrec inspect`, make a data set of it with `sccrossrec prepare`, and check that",
        ));
    }
    let data = ctx.open_data(dir)?;
    let found = health(&data, &ctx.follow())?;
    let count = |light| found.iter().filter(|f| f.light == light).count();
    let [good, doubtful, bad] = [Light::Good, Light::Doubtful, Light::Bad].map(count);
    let json = json!({
        "data": dir.display().to_string(), "good": good, "doubtful": doubtful, "bad": bad, "lines": found,
    });
    let colour = colour_of_stdout();
    let mut table: String = found.iter().map(|f| line(f, colour)).collect();
    table += &format!("\n{good} good, {doubtful} doubtful, {bad} bad\n");
    ctx.result(&table, &json);
    if bad == 0 {
        ctx.next("", &format!("sccrossrec train --data {} --out run", quoted(dir)));
    } else {
        ctx.next("", "mend what is bad, then `sccrossrec prepare` again");
    }
    Ok(())
}

/// A light, what was found, and below it the reason and the remedy.
fn line(f: &Finding, colour: bool) -> String {
    let code = match f.light {
        Light::Good => "32",
        Light::Doubtful => "33",
        Light::Bad => "1;31",
    };
    let light = format!("{:<8}", f.light.name());
    let light = if colour { format!("\x1b[{code}m{light}\x1b[0m") } else { light };
    let mut out = format!("{light}  {:<20} {}\n", f.what, f.value);
    if f.light != Light::Good {
        out += &format!("{:10}why: {}\n{:10}do:  {}\n", "", f.reason, "", f.remedy);
    }
    out
}
