//! The help of every verb: flags under headings, common ones last; a short page (`-h`) and a whole one (`--help`).
//!
//! A new flag gets its place in [`HEADINGS`], a new verb its place in [`WALK`] and its examples in [`EXAMPLES`].

use std::ffi::OsStr;

use clap::{Arg, ArgAction, Command};

use super::terminal;

/// Headings in their order, and the flags under each; `VERB/FLAG` is for that verb alone. Settings of `train` have theirs in
/// `train/config.rs`.
const HEADINGS: [(&str, &str); 15] = [
    (
        "Input",
        "run data rna atac h5mu tenx dataset from like gtf obs cell-type-column genome fasta aliases force-annotation \
         gene-features pair barcodes min-common rna-layer atac-layer rna-modality atac-modality tenx-genome rna-values \
         atac-values counts-layer part pairs cells cell-types discovery heads alpha verify op",
    ),
    ("Output", "out force resume doubts gzip no-gzip export chrom-names links nodes attention no-umap"),
    ("Picture", "plot/attention gene cell plot/cell-type scale top around chrom"),
    (
        "Size",
        "simulate/dataset simulate/cells simulate/genes simulate/peaks simulate/chromosomes simulate/cell-types \
         simulate/difficulty demo/cells demo/genes demo/peaks demo/chromosomes demo/cell-types",
    ),
    ("Values", "n-top-genes no-variable-genes overwrite"),
    (
        "Pairs",
        "name negatives negative-ratio split val-batches test-batches prepare/cell-types pairs/cell-types prepare/discovery \
         pairs/discovery",
    ),
    ("Training", "train/resume recipe epochs repeats"),
    ("Towers", ""),
    ("Optimiser", ""),
    ("Losses", ""),
    ("Model", "checkpoint allow-missing scores match/query match/top match/exact candidates anchors translation"),
    (
        "Statistics",
        "score null window components min-cells min-type-cells replicates max-q min-probability permutations no-baselines \
         no-evaluate no-embedding",
    ),
    ("Comparison", "truth truth-window tf tf-permutations"),
    ("Machine", "device batch-size kernel profile on precision quick batch kernels/repeats"),
    (COMMON, "threads seed config memory-limit io quiet json help version"),
];

const COMMON: &str = "Common";

/// Flags that `-h` leaves out; `VERB/FLAG` for that verb alone, `HEADING:` all under it but for those in [`USUAL`].
const RARE: &str = "no-gzip force-annotation aliases rna-layer atac-layer rna-modality atac-modality tenx-genome rna-values atac-values \
     pair barcodes min-common val-batches test-batches prepare/discovery negative-ratio counts-layer allow-missing score \
     min-cells min-type-cells permutations truth-window tf-permutations chrom-names anchors candidates batch-size kernel \
     profile nodes cells components no-embedding no-evaluate gene-features simulate/chromosomes demo/chromosomes config io \
     memory-limit Towers: Optimiser: Losses: Model: Machine: Training:";

/// Of headings that `-h` leaves out, the flags that it does not.
const USUAL: &str = "resume recipe repeats pairs epochs patience train/batch-size tower-epochs batch lr precision checkpoint \
     scores match/query match/top translation device on op quick kernels/batch kernels/repeats";

/// The verbs as a user meets them.
const WALK: [(&str, &str); 5] = [
    ("First steps", "demo simulate doctor"),
    ("Data", "inspect annotate prepare check pairs"),
    ("Model", "train evaluate"),
    ("Results", "discover match embed translate plot report"),
    ("More", "weights datasets recipes kernels completions man"),
];

const BEGIN: &str = "Begin with  sccrossrec demo --out demo  (everything on simulated data), or with your own files:
  sccrossrec prepare --rna rna.h5ad --atac atac.h5ad --gtf genes.gtf.gz --out data
  sccrossrec check data
  sccrossrec train --data data --out run
Flags of a verb: sccrossrec VERB -h (the usual ones), sccrossrec VERB --help (all)";

/// Commands for every verb that is no group of others, each with what it is for.
pub(super) const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "demo",
        &[
            ("everything on simulated data, in two minutes", "sccrossrec demo --out demo"),
            ("in seconds", "sccrossrec demo --out demo --cells 400 --genes 60 --peaks 200 --epochs 2"),
        ],
    ),
    (
        "simulate",
        &[
            ("files to try the other verbs on", "sccrossrec simulate --out sim --cells 1000"),
            ("nearer to a real tissue", "sccrossrec simulate --out sim --difficulty tissue"),
        ],
    ),
    ("doctor", &[("is there a GPU, and is it used?", "sccrossrec doctor")]),
    (
        "inspect",
        &[
            ("what is in a file", "sccrossrec inspect rna.h5ad"),
            ("is a data set as it was made?", "sccrossrec inspect data --verify"),
        ],
    ),
    (
        "check",
        &[
            ("are the data good enough to train on?", "sccrossrec check data"),
            ("the same for a program", "sccrossrec check data --json"),
        ],
    ),
    (
        "annotate",
        &[
            (
                "places of genes from an annotation",
                "sccrossrec annotate --rna rna.h5ad --atac atac.h5ad --gtf genes.gtf.gz --out full",
            ),
            (
                "sequences of peaks from a genome, too",
                "sccrossrec annotate --rna rna.h5ad --atac atac.h5ad --gtf genes.gtf.gz --genome genome.fa.gz --out full",
            ),
        ],
    ),
    (
        "prepare",
        &[
            ("two AnnData files", "sccrossrec prepare --rna rna.h5ad --atac atac.h5ad --gtf genes.gtf.gz --out data"),
            (
                "a 10x Multiome file, cell types from a table",
                "sccrossrec prepare --tenx filtered_feature_bc_matrix.h5 --gtf genes.gtf.gz --obs cells.csv --out data",
            ),
            ("whole donors held out", "sccrossrec prepare --h5mu cells.h5mu --split batch:donor --out data"),
        ],
    ),
    (
        "pairs",
        &[(
            "negatives of one cell type, which are harder",
            "sccrossrec pairs --data data --name hard --negatives hard",
        )],
    ),
    (
        "train",
        &[
            ("the usual training", "sccrossrec train --data data --out run"),
            ("a first look, quickly", "sccrossrec train --data data --out run --recipe fast"),
            ("go on with a run that was stopped", "sccrossrec train --resume --out run"),
        ],
    ),
    (
        "evaluate",
        &[
            ("on the cells that training did not see", "sccrossrec evaluate --run run"),
            ("on other data", "sccrossrec evaluate --run run --data other --out evaluation.json"),
        ],
    ),
    (
        "discover",
        &[
            ("links of peaks and genes; no model is needed", "sccrossrec discover --data data --out links"),
            ("what a model attends to, besides", "sccrossrec discover --run run --out found"),
            (
                "beside known links, and for a genome browser",
                "sccrossrec discover --data data --truth eqtl.tsv --export bedpe --out links",
            ),
        ],
    ),
    (
        "match",
        &[
            (
                "the ATAC that goes with each RNA",
                "sccrossrec match --run run --rna data --atac data --part test --out partners.tsv",
            ),
            (
                "cells whose halves may not belong together",
                "sccrossrec match --run run --rna data --atac data --out partners.tsv --doubts doubts.tsv",
            ),
        ],
    ),
    ("embed", &[("for scanpy: both modalities in one space", "sccrossrec embed --run run --out embedding.h5ad")]),
    (
        "translate",
        &[
            ("RNA expected from the ATAC of each cell", "sccrossrec translate --run run --out expected.h5ad"),
            ("of other cells", "sccrossrec translate --run run --data other --out expected.h5ad"),
        ],
    ),
    (
        "plot umap",
        &[
            ("cells by type", "sccrossrec plot umap --run run --out umap.png"),
            ("cells by a gene", "sccrossrec plot umap --run run --colour Gad1 --out gad1.png"),
        ],
    ),
    (
        "plot region",
        &[
            ("a gene with its links", "sccrossrec plot region Gad1 --data data --discovery links --out gad1.png"),
            (
                "a place, by fragments",
                "sccrossrec plot region chr2:70500000-70700000 --data data --fragments fragments.tsv.gz --out place.svg",
            ),
        ],
    ),
    (
        "plot dotplot",
        &[("markers by cell type", "sccrossrec plot dotplot --data data --genes Gad1,Gad2,Mbp --out markers.png")],
    ),
    ("plot curves", &[("how training went", "sccrossrec plot curves --run run --out curves.png")]),
    ("plot embedding", &[("cells in the joint space", "sccrossrec plot embedding --run run --out cells.svg")]),
    (
        "plot heatmap",
        &[(
            "attention of one cell",
            "sccrossrec plot heatmap --discovery found --cell AAACAGCCAAGGAATC-1 --out heat.png",
        )],
    ),
    ("plot arcs", &[("links of one gene", "sccrossrec plot arcs --discovery links --gene GATA1 --out gata1.png")]),
    (
        "plot tracks",
        &[("links along a chromosome", "sccrossrec plot tracks --discovery links --chrom chr1 --out chr1.png")],
    ),
    (
        "report",
        &[
            ("a run and its links on one page", "sccrossrec report run --discovery found --out report.html"),
            ("links alone", "sccrossrec report links --out report.html"),
        ],
    ),
    ("weights export", &[("for other programs", "sccrossrec weights export --run run --out weights.safetensors")]),
    ("weights import", &[("as a run", "sccrossrec weights import weights.safetensors --data data --out run")]),
    ("datasets", &[("what `prepare --dataset` knows", "sccrossrec datasets")]),
    ("recipes", &[("which settings a recipe has", "sccrossrec recipes")]),
    ("kernels list", &[("what there is", "sccrossrec kernels list")]),
    (
        "kernels check",
        &[
            ("all of them, without a GPU", "sccrossrec kernels check --on host --quick"),
            ("one of your own", "sccrossrec kernels check my.cu --op attend"),
        ],
    ),
    ("kernels bench", &[("how fast it is", "sccrossrec kernels bench my.cu --op attend")]),
    (
        "completions",
        &[
            ("for bash", "sccrossrec completions bash > ~/.local/share/bash-completion/completions/sccrossrec"),
            ("for zsh", "sccrossrec completions zsh > ~/.zfunc/_sccrossrec"),
        ],
    ),
    (
        "man",
        &[("one page a verb", "sccrossrec man --out man"), ("the main page at once", "sccrossrec man > sccrossrec.1")],
    ),
];

/// Is `flag` of the verb `verb` among these words?
fn listed(words: &str, verb: &str, flag: &str) -> bool {
    words.split_whitespace().any(|w| match w.split_once('/') {
        Some((of, name)) => of == verb && name == flag,
        None => w == flag,
    })
}

/// The heading of a flag: what is for the verb alone before what is for all.
fn heading(verb: &str, flag: &str) -> Option<&'static str> {
    let own = format!("{verb}/{flag}");
    let of = |word: &str| HEADINGS.iter().find(|h| h.1.split_whitespace().any(|w| w == word)).map(|h| h.0);
    of(&own).or_else(|| of(flag)).or((verb == "plot").then_some("Picture"))
}

/// What a flag is called: `--out` is `out`.
fn name_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// The same command with its flags under headings, in their order.
pub(super) fn arranged(command: Command) -> Command {
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help)
        .help("The usual flags (-h), all of them (--help)");
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version).help("The version");
    let command = command.disable_help_flag(true).disable_version_flag(true).arg(version).arg(help.global(true));
    sorted(&command, "")
}

/// `verb`: the first name of its path.
fn sorted(command: &Command, verb: &str) -> Command {
    let mut args: Vec<Arg> = command.get_arguments().cloned().collect();
    for arg in &mut args {
        if !arg.is_positional() && arg.get_help_heading().is_none() {
            let heading = heading(verb, name_of(arg));
            *arg = std::mem::replace(arg, Arg::new("")).help_heading(heading);
        }
        let rare = listed(RARE, verb, name_of(arg))
            || arg.get_help_heading().is_some_and(|h| RARE.split_whitespace().any(|w| w.strip_suffix(':') == Some(h)));
        // What can be chosen is named where a value stands, if it is short.
        let unnamed =
            arg.get_value_names().is_none_or(|n| n.len() == 1 && n[0].as_str() == arg.get_id().as_str().to_uppercase());
        let choices: Vec<String> = arg.get_possible_values().iter().map(|v| v.get_name().to_string()).collect();
        let choices = choices.join("|");
        if arg.get_action().takes_values() && unnamed && (1..=26).contains(&choices.len()) {
            *arg = std::mem::replace(arg, Arg::new("")).value_name(choices);
        }
        if rare && !arg.is_positional() && !listed(USUAL, verb, name_of(arg)) {
            *arg = std::mem::replace(arg, Arg::new("")).hide_short_help(true);
        }
    }
    let rank = |a: &Arg| {
        let Some(heading) = a.get_help_heading() else { return (0, 0) };
        let at = HEADINGS.iter().position(|h| h.0 == heading).unwrap_or(0);
        // Settings keep the order of their list.
        let own = |w: &str| w.rsplit('/').next() == Some(name_of(a));
        let place = HEADINGS[at].1.split_whitespace().position(own).filter(|_| verb != "train");
        (1 + at, place.unwrap_or(usize::MAX))
    };
    args.sort_by_key(rank);
    let mut out = Command::new(command.get_name().to_string())
        .args(args)
        .groups(command.get_groups().cloned())
        .subcommand_required(command.is_subcommand_required_set())
        .arg_required_else_help(command.is_arg_required_else_help_set())
        .subcommand_value_name("VERB")
        .disable_help_flag(true)
        .aliases(command.get_all_aliases().map(str::to_string));
    if let Some(about) = command.get_about() {
        out = out.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        out = out.version(version.to_string()).disable_version_flag(true);
    }
    // Verbs in the order in which a user meets them.
    let place = |c: &Command| WALK.iter().flat_map(|w| w.1.split_whitespace()).position(|v| v == c.get_name());
    let mut verbs: Vec<Command> =
        command.get_subcommands().map(|c| sorted(c, if verb.is_empty() { c.get_name() } else { verb })).collect();
    if verb.is_empty() {
        verbs.sort_by_key(|c| place(c).unwrap_or(usize::MAX));
    }
    out.subcommands(verbs)
}

/// The examples of a verb.
pub(super) fn examples(path: &str) -> &'static [(&'static str, &'static str)] {
    EXAMPLES.iter().find(|e| e.0 == path).map_or(&[], |e| e.1)
}

/// The command with the pages that `-h` and `--help` show, as wide as the terminal.
pub(super) fn with_pages(command: Command) -> Command {
    let mut built = command.clone();
    built.build();
    let how = Layout { width: terminal::width().clamp(50, 100), colour: terminal::colour_of_stdout() };
    paged(command, &built, "", how)
}

fn paged(command: Command, built: &Command, path: &str, how: Layout) -> Command {
    let command = command
        .help_template("{before-help}")
        .before_help(how.page(built, path, false))
        .before_long_help(how.page(built, path, true));
    command.mut_subcommands(|sub| match built.find_subcommand(sub.get_name()) {
        Some(of) => {
            let path = format!("{path} {}", sub.get_name()).trim_start().to_string();
            paged(sub, of, &path, how)
        }
        None => sub,
    })
}

/// How pages are set.
#[derive(Debug, Clone, Copy)]
struct Layout {
    width: usize,
    colour: bool,
}

impl Layout {
    fn bold(self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_string() }
    }

    /// A heading of the page.
    fn title(self, text: &str) -> String {
        if self.colour { format!("\x1b[1;36m{text}\x1b[0m") } else { text.to_string() }
    }

    fn page(self, command: &Command, path: &str, long: bool) -> String {
        let mut page = command.get_about().map_or(String::new(), |a| self.filled(&a.to_string(), 0) + "\n\n");
        let usage = command.clone().render_usage().to_string();
        page += &format!("{} {}\n", self.title("Usage:"), usage.trim_start_matches("Usage:").trim());
        page += &self.verbs(command, path);
        page += &self.flags(command, long);
        match (path, examples(path)) {
            ("", _) => page += &format!("\n{BEGIN}\n"),
            (_, []) => {}
            (_, all) if long => {
                page += &format!("\n{}\n", self.title("Examples:"));
                for (what, typed) in all {
                    page += &format!("  {what}\n    {}\n", self.bold(typed));
                }
            }
            (_, [(_, typed), ..]) => page += &format!("\n{} {typed}\n", self.title("Example:")),
        }
        if !long && command.get_arguments().any(|a| a.is_hide_short_help_set() && !a.is_global_set()) {
            page += &format!("{} sccrossrec {path} --help\n", self.title("All flags:"));
        }
        page.trim_end().to_string()
    }

    fn verbs(self, command: &Command, path: &str) -> String {
        let all: Vec<&Command> =
            command.get_subcommands().filter(|c| c.get_name() != "help" && !c.is_hide_set()).collect();
        let Some(widest) = all.iter().map(|c| c.get_name().len()).max() else { return String::new() };
        let mut out = String::new();
        let mut group = |title: &str, verbs: Vec<&&Command>| {
            if verbs.is_empty() {
                return;
            }
            out += &format!("\n{}\n", self.title(&format!("{title}:")));
            for verb in verbs {
                let about = verb.get_about().map_or(String::new(), ToString::to_string);
                let name = format!("{:<widest$}", verb.get_name());
                out += &format!("  {}  {}\n", self.bold(&name), self.filled(&about, widest + 4));
            }
        };
        if !path.is_empty() {
            group("Verbs", all.iter().collect());
            return out;
        }
        for (title, names) in WALK {
            group(title, all.iter().filter(|c| names.split_whitespace().any(|n| n == c.get_name())).collect());
        }
        out
    }

    fn flags(self, command: &Command, long: bool) -> String {
        let shown = |a: &&Arg| !a.is_hide_set() && (long || !a.is_hide_short_help_set());
        let args: Vec<&Arg> = command.get_arguments().filter(shown).collect();
        let typed = |a: &Arg| {
            let short = a.get_short().map_or(String::new(), |s| format!("-{s}, "));
            short + &a.to_string()
        };
        // What is wider has its help on the next line.
        const WIDE: usize = 34;
        let column = args.iter().map(|a| typed(a).chars().count()).filter(|n| *n <= WIDE).max().unwrap_or(0) + 4;
        let mut out = String::new();
        let mut last = None;
        for arg in args {
            let heading = if arg.is_positional() { "Arguments" } else { arg.get_help_heading().unwrap_or("Flags") };
            if last.replace(heading) != Some(heading) {
                out += &format!("\n{}\n", self.title(&format!("{heading}:")));
            }
            let (name, told) = (typed(arg), self.told(arg, long, column));
            match name.chars().count() + 4 {
                n if n <= column => out += &format!("  {}{}{told}\n", self.bold(&name), " ".repeat(column - n + 2)),
                _ => out += &format!("  {}\n{}{told}\n", self.bold(&name), " ".repeat(column)),
            }
        }
        out
    }

    /// What a flag does, from the column `at`: all of it, or as much as one line holds.
    fn told(self, arg: &Arg, long: bool, at: usize) -> String {
        let (text, default, choices) = parts(arg);
        let all = [text.as_str(), &choices, &default].map(str::trim).into_iter().filter(|p| !p.is_empty());
        let all = all.collect::<Vec<_>>().join(" ");
        let room = self.width.saturating_sub(at).max(20);
        if long || all.chars().count() <= room {
            return self.filled(&all, at);
        }
        // Of what a recipe sets, the default recipe is the usual one.
        let default = match default.strip_prefix("[default: by recipe: ").and_then(|d| d.split(", ").next()) {
            Some(first) => format!("[default: {}, by recipe]", first.rsplit(' ').next().unwrap_or_default()),
            None => default,
        };
        // Shorter from the back, at what parts the text: first where it parts best.
        let open = |at: &usize| text[..*at].matches('(').count() == text[..*at].matches(')').count();
        const STRONG: &[&str] = &[";", ": ", " ("];
        const WEAK: &[&str] = &[" of ", " where ", " that "];
        let kept = default.as_str();
        for (marks, shown) in [(STRONG, kept), (&[", "], kept), (STRONG, ""), (&[", "], ""), (WEAK, kept), (WEAK, "")] {
            let whole = |text: &str| format!("{} {shown}", text.trim_end_matches([',', ':', ';'])).trim().to_string();
            let mut cuts: Vec<usize> =
                marks.iter().flat_map(|m| text.match_indices(m)).map(|m| m.0).filter(open).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            if let Some(best) = cuts.iter().rev().map(|&c| whole(&text[..c])).find(|t| t.chars().count() <= room) {
                return best;
            }
        }
        text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    }

    /// Text in lines, those after the first from the column `at`.
    fn filled(self, text: &str, at: usize) -> String {
        let room = self.width.saturating_sub(at).max(20);
        let (mut out, mut line) = (String::new(), 0);
        for word in text.split_whitespace() {
            let n = word.chars().count();
            if line > 0 && line + 1 + n > room {
                out += &format!("\n{}", " ".repeat(at));
                line = 0;
            }
            if line > 0 {
                out.push(' ');
                line += 1;
            }
            out += word;
            line += n;
        }
        out
    }
}

/// What a flag does, its default, and what can be chosen where the text does not say that.
pub(super) fn parts(arg: &Arg) -> (String, String, String) {
    let text = arg.get_help().map_or(String::new(), ToString::to_string);
    let (text, mut default) = match text.rfind(" [default: ") {
        Some(at) => (text[..at].to_string(), text[at..].trim().to_string()),
        None => (text, String::new()),
    };
    let takes = arg.get_action().takes_values();
    let values: Vec<_> =
        arg.get_default_values().iter().map(|v: &clap::builder::OsStr| OsStr::to_string_lossy(v)).collect();
    if takes && !values.is_empty() && default.is_empty() {
        default = format!("[default: {}]", values.join(", "));
    }
    let names: Vec<String> = arg.get_possible_values().iter().map(|v| v.get_name().to_string()).collect();
    let typed = arg.get_value_names().unwrap_or_default().iter().map(|v| v.to_string()).collect::<Vec<_>>().join(" ");
    let said = |name: &String| {
        format!("{text} {typed}").split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').any(|w| w == name)
    };
    let choices = match takes && !names.is_empty() && !names.iter().all(said) {
        true => format!("[one of: {}]", names.join(", ")),
        false => String::new(),
    };
    (text, default, choices)
}
