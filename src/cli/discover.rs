//! `discover`: links between peaks and genes, and the attention of a run read back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser};

use super::context::{Context, DeviceArg, LARGE_TABLE, Which, output_dir};
use super::evaluate::open_data;
use crate::discover::evidence::table::{LinksSummary, short};
use crate::discover::evidence::{ReplicateColumn, Selection};
use crate::discover::exports::{ChromNames, Export, Format};
use crate::discover::null::Null;
use crate::discover::record::{AttentionSummary, Discovery, SCORE};
use crate::discover::tf::{PERMUTATIONS, TfComparison, TfFile};
use crate::discover::truth::TSS_WINDOW;
use crate::discover::{DiscoverOptions, PARTS, Recovery, discover, discover_links};
use crate::engine::Runner;
use crate::error::{Error, Result, quoted};
use crate::table::{aligned, number};
use crate::vocabulary::Vocabulary;

/// Flags of `discover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run, whose attention is read back besides: the --out folder of `train`. Links need none: give --data alone
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// The data: the --out folder of `prepare` [default: those that the run was trained on]
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Only cells of these types
    #[arg(long, value_name = "A,B")]
    cell_types: Option<Vec<String>>,
    // There is one way; the flag stays for command lines that name it.
    /// How attention counts towards a link
    #[arg(long, value_parser = scores(), default_value = SCORE)]
    score: String,
    /// What attention is tested against: pairs further apart than --window that are alike in gene and peak (matched),
    /// attention on shuffled pairings of RNA and ATAC (shuffled), nothing (none)
    #[arg(long, value_enum, default_value_t)]
    null: Null,
    /// A pair is looked at up to this distance of TSS and peak, in bases (also 500kb or 1Mb)
    #[arg(long, value_name = "BASES", default_value = "500000", value_parser = bases)]
    window: u32,
    /// Leading components of RNA that are taken out within kinds of cells; auto: as many as make pairs near a promoter stand
    /// out most
    #[arg(long, value_name = "K|auto", default_value = "auto", value_parser = components)]
    components: Components,
    /// Cells with both gene and peak that a pair needs; pairs with fewer are listed apart
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    min_cells: u32,
    /// Cells that a type needs for a table of its own
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(15..))]
    min_type_cells: u32,
    /// Column of cells that tells replicates; auto: the first that is there of batch, sample, donor, site and the like; none
    #[arg(long, value_name = "COLUMN", default_value = "auto")]
    replicates: String,
    /// Largest false discovery rate (q) of a pair that counts as a link
    #[arg(long, value_name = "Q", default_value_t = 0.1, value_parser = share)]
    max_q: f64,
    /// Least probability of a pair that counts as a link
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    min_probability: f64,
    /// Compress the tables of links (.tsv.gz) [default: those above 50 MB]
    #[arg(long)]
    gzip: bool,
    /// Compress no table, however large
    #[arg(long, conflicts_with = "gzip")]
    no_gzip: bool,
    /// With --null shuffled: passes over shuffled pairings
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    permutations: u32,
    /// Go on with a discovery that was stopped
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Known links to compare with: a table with the columns gene and peak (or gene, chrom, start, end), or BEDPE; a column
    /// as Regulated or label tells links from tested negatives, and only tested pairs count
    #[arg(long, value_name = "F")]
    truth: Option<PathBuf>,
    /// Further names of chromosomes in files to compare with: a table such as UCSC's chromAlias.txt
    #[arg(long, value_name = "FILE")]
    aliases: Option<PathBuf>,
    /// Of known links given by place: bases around a TSS within which an end is at the gene
    #[arg(long, value_name = "BASES", default_value_t = TSS_WINDOW as u32)]
    truth_window: u32,
    /// Binding sites to compare with: narrowPeak, or BED with the column of its score; may be given again
    #[arg(long, value_name = "F[:COLUMN]")]
    tf: Vec<TfFile>,
    /// Permutations behind the background of that comparison
    #[arg(long, value_name = "K", default_value_t = PERMUTATIONS as u32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tf_permutations: u32,
    /// Write the maps for other programs, too
    #[arg(long, value_enum, value_name = "FORM,FORM", value_delimiter = ',')]
    export: Vec<Format>,
    /// How these files name chromosomes
    #[arg(long, value_enum, default_value_t)]
    chrom_names: ChromNames,
    #[command(flatten)]
    which: Which,
    /// Cells a forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Folder for links.tsv, links/TYPE.tsv, peaks.tsv, genes.tsv, discover.json, and what attention says
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Replace files of the same name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// `--components`: a number, or `None` for auto.
type Components = Option<u32>;

fn components(text: &str) -> std::result::Result<Components, String> {
    match text {
        "auto" => Ok(None),
        n => match n.parse() {
            Ok(n) if n <= 500 => Ok(Some(n)),
            _ => Err("give a number of 0 to 500, or auto".into()),
        },
    }
}

/// A number of bases from 1, such as `500000`, `500kb`, `0.5Mb`.
pub(super) fn bases(text: &str) -> std::result::Result<u32, String> {
    let plain = text.trim().to_ascii_lowercase().replace(['_', ','], "");
    let plain = plain.strip_suffix("bp").or_else(|| plain.strip_suffix('b')).unwrap_or(&plain).trim_end();
    let (number, unit) = match plain.strip_suffix('k').map(|n| (n, 1e3)).or(plain.strip_suffix('m').map(|n| (n, 1e6))) {
        Some(parted) => parted,
        None => (plain, 1.0),
    };
    let number = number.trim_end().parse::<f64>().ok().map(|n| n * unit);
    let whole = number.filter(|n| n.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(n));
    whole.map(|n| n as u32).ok_or_else(|| "give a number of bases from 1, such as 500000 or 500kb".into())
}

/// A number in [0, 1].
pub(super) fn share(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(|| "give a number of 0 to 1".into())
}

/// The ways in which attention counts.
fn scores() -> PossibleValuesParser {
    let help = "By its attention weight A_ij, averaged over heads: summed over cells, as published";
    PossibleValuesParser::new([PossibleValue::new(SCORE).help(help)])
}

/// Refuses to write over something else, and to go on with what is finished or was never begun.
fn check_out(args: &Args) -> Result<()> {
    let there = |name: &str| args.out.join(name).exists();
    for (mark, what) in [("dataset.json", "a prepared data set"), ("run.json", "a run")] {
        if there(mark) {
            return Err(Error::input(&args.out, format!("holds {what}"), "choose another --out (--force or not)"));
        }
    }
    let begun = there(PARTS);
    if args.resume && !begun && there("discover.json") {
        return Err(Error::input(
            &args.out,
            "holds a finished discovery",
            "replace it with --force, or choose another --out",
        ));
    }
    let empty = std::fs::read_dir(&args.out).map_or(true, |mut d| d.next().is_none());
    if args.resume && !begun && !empty {
        return Err(Error::input(
            &args.out,
            "holds no discovery to go on with",
            "choose another --out, or leave out --resume",
        ));
    }
    if begun && !args.resume && !args.force {
        return Err(Error::input(
            &args.out,
            "holds a discovery that was stopped",
            "go on with --resume, or begin again with --force",
        ));
    }
    Ok(())
}

/// Discovers, writes and prints.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let device = args.device.choose()?;
    let run = args.run.as_ref().map(|dir| args.which.open(dir)).transpose()?;
    let data = match (&run, &args.data) {
        (Some(run), data) => open_data(run, data.as_ref(), ctx)?,
        (None, Some(dir)) => ctx.open_data(dir)?,
        (None, None) => return Err(Error::usage("give --run, or --data for links alone")),
    };
    let mut about = vec![("out", args.out.display().to_string()), ("data", data.dir().display().to_string())];
    about.push(("data_hash", data.hash().to_string()));
    if let Some(dir) = &args.run {
        let place = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        about.push(("run", place.display().to_string()));
        about.push(("checkpoint", args.which.checkpoint.file_name().to_string()));
    }
    let about: serde_json::Map<_, _> = about.into_iter().map(|(k, v)| (k.to_string(), v.into())).collect();
    let options = options(args, ctx, about.clone());
    options.check(&data)?;
    if let Some((found, fix)) = no_links(data.vocabulary()) {
        if run.is_none() {
            return Err(Error::input(data.dir(), format!("there can be no links: {found}"), fix));
        }
        ctx.say(&format!("warning: there will be no links, only attention: {found}; {fix}"));
    }
    check_out(args)?;
    let model = run.as_ref().map(|run| run.model(&data, args.which.checkpoint)).transpose()?;
    let _made = output_dir(&args.out, args.force || args.resume)?;
    let made = match &model {
        Some(model) => discover(Runner::new(model, &device)?, &data, &options, &args.out, &ctx.follow())?,
        None => discover_links(&data, &options, &args.out, &ctx.follow())?,
    };
    let mut json = serde_json::to_value(&made).map_err(|e| Error::Internal(format!("discovery: {e}")))?;
    if let Some(fields) = json.as_object_mut() {
        fields.extend(about);
    }
    ctx.result(&table(&made, &args.out), &json);
    let out = quoted(&args.out);
    let of = match &args.run {
        Some(run) => format!("{} --discovery {out}", quoted(run)),
        None => out,
    };
    let found = format!("{} links among {} pairs of a gene and a peak", made.links.selected, made.links.pairs);
    ctx.next(&found, &format!("sccrossrec report {of} --out report.html"));
    Ok(())
}

/// Why no pair of a gene and a peak has a distance, where none has, and what to do.
fn no_links(v: &Vocabulary) -> Option<(&'static str, &'static str)> {
    const GTF: &str = "prepare the data again with the annotation of their genome (--gtf)";
    let known = |chrom: u32| Some(chrom) != v.unknown;
    let genes: HashSet<u32> = v.genes.iter().filter(|g| g.tss.is_some() && known(g.chrom)).map(|g| g.chrom).collect();
    let peaks: HashSet<u32> = v.peaks.iter().filter(|p| p.start >= 0 && known(p.chrom)).map(|p| p.chrom).collect();
    match () {
        () if genes.is_empty() => Some(("no gene has a TSS, so that no distance is known", GTF)),
        () if peaks.is_empty() => Some((
            "no peak has a start and an end",
            "name the peaks as chr1:100-200, or give their columns, and prepare again",
        )),
        () if genes.is_disjoint(&peaks) => Some(("no chromosome has both a gene with a TSS and a peak", GTF)),
        () => None,
    }
}

fn options(args: &Args, ctx: &Context, about: serde_json::Map<String, serde_json::Value>) -> DiscoverOptions {
    DiscoverOptions {
        about,
        cell_types: args.cell_types.clone(),
        batch_size: args.batch_size as usize,
        truth: args.truth.clone(),
        aliases: args.aliases.clone(),
        truth_window: i64::from(args.truth_window),
        tf: args.tf.clone(),
        tf_permutations: args.tf_permutations as usize,
        exports: {
            let mut formats = args.export.clone();
            let mut seen = std::collections::HashSet::new();
            formats.retain(|f| seen.insert(*f));
            formats
        },
        chrom_names: args.chrom_names,
        null: args.null,
        window: f64::from(args.window),
        components: args.components.map(|k| k as usize),
        min_cells: args.min_cells,
        min_type_cells: args.min_type_cells,
        replicates: match args.replicates.as_str() {
            "auto" => ReplicateColumn::Auto,
            "none" => ReplicateColumn::None,
            name => ReplicateColumn::Named(name.into()),
        },
        selection: Selection { max_q: args.max_q, min_probability: args.min_probability },
        gzip: args.gzip,
        gzip_above: (!args.no_gzip).then_some(LARGE_TABLE),
        permutations: args.permutations,
        resume: args.resume,
        seed: ctx.seed,
    }
}

fn table(d: &Discovery, out: &Path) -> String {
    let mut text = links_table(&d.links, out);
    if let Some(a) = &d.attention {
        text += &format!("\n{}", attention_table(a, d.cells, out));
    }
    if let Some(t) = &d.tf {
        text += &format!("\n{}", tf_table(t));
    }
    // A line a form: files of one form share a folder.
    for of_form in
        d.exports.chunk_by(|a, b| a.file.parent() == b.file.parent() && a.file.extension() == b.file.extension())
    {
        let sum = |of: fn(&Export) -> u64| of_form.iter().map(of).sum::<u64>();
        let left = match sum(|e| e.left_out) {
            0 => String::new(),
            n => format!(", {n} left out for want of a place"),
        };
        let at = match of_form {
            [one] => out.join(&one.file),
            [first, ..] => out.join(first.file.parent().unwrap_or(&first.file)),
            [] => continue,
        };
        text += &format!("{}: {} files, {} entries{left}\n", at.display(), of_form.len(), sum(|e| e.written));
    }
    if let Some(r) = &d.recovery {
        text += &format!("\n{}", recovery_table(r));
    }
    text
}

/// Which pairs count, in words.
fn counted(s: &Selection) -> String {
    let mut words = Vec::new();
    if s.max_q < 1.0 {
        words.push(format!("q of {} at most", short(s.max_q)));
    }
    if s.min_probability > 0.0 {
        words.push(format!("probability of {} at least", short(s.min_probability)));
    }
    if words.is_empty() { "any".into() } else { words.join(", ") }
}

/// The links, type by type, and how far to trust them.
fn links_table(l: &LinksSummary, out: &Path) -> String {
    let mut text = format!(
        "{}: {} pairs of a gene and a peak, {} of them links ({})\n",
        out.join(&l.file).display(),
        l.pairs,
        l.selected,
        counted(&l.selection)
    );
    if l.untested > 0 {
        let file = out.join(&l.untested_file);
        text += &format!("{}: {} pairs that too few cells have both of, not tested\n", file.display(), l.untested);
    }
    if let Some(c) = l.choice.as_ref().filter(|c| c.within_bases.is_some()) {
        let [a, b] = c.weights;
        let both = |x: String, y: String| if x == y { x } else { format!("{x} and {y}") };
        text += &format!(
            "weights (each half of the chromosomes by the other): between kinds {}, within {}, {} components taken out\n",
            both(format!("{:.2}", a.between), format!("{:.2}", b.between)),
            both(format!("{:.2}", a.within), format!("{:.2}", b.within)),
            both(a.components.to_string(), b.components.to_string())
        );
    }
    let kind = if l.typed { "cell types" } else { "neighbourhoods" };
    if !l.kinds.is_empty() {
        text += &format!("compared: {} {kind}", l.kinds.len());
        if let Some(r) = &l.replicates {
            let how = if r.automatic { ", found by its name" } else { "" };
            text += &format!(", {} replicates (column {}{how})", r.names.len(), r.column);
        }
        text += "\n";
    }
    if let Some(a) = &l.agreement {
        let of = |x: Option<f64>| x.map_or("NaN".into(), |x| format!("{x:.2}"));
        text += &format!(
            "two halves of the cells ({}): Spearman {} over {} pairs; of the first 500, {} in both; of {} claimed in one, {} of \
             the same sign in the other\n",
            a.by,
            of(a.spearman),
            a.pairs,
            a.first_500_shared,
            a.claimed[0],
            a.claimed[1]
        );
    }
    if !l.cell_types.is_empty() {
        let mut rows = vec![["cell type", "cells", "active links", "table"].map(String::from).to_vec()];
        for t in &l.cell_types {
            let file = out.join(&t.file).display().to_string();
            rows.push(vec![t.cell_type.clone(), t.cells.to_string(), t.active.to_string(), file]);
        }
        text += &format!("\n{}", aligned(&rows));
        if !l.small_types.is_empty() {
            text += &format!("left out, with too few cells (--min-type-cells): {}\n", l.small_types.join(", "));
        }
    }
    text
}

/// What attention says, type by type.
fn attention_table(d: &AttentionSummary, cells: u64, out: &Path) -> String {
    let row = |c: [String; 6]| c.to_vec();
    let heads = ["attention", "cells", "pairs", "pairs tested", "q < 0.05", "table"];
    let mut rows = vec![row(heads.map(String::from))];
    for f in d.cell_types.iter().chain([&d.all]) {
        let file = out.join(&f.file).display().to_string();
        let significant = if d.null == Null::None { "-".into() } else { f.significant.to_string() };
        rows.push(row([
            f.cell_type.clone(),
            f.cells.to_string(),
            f.links.to_string(),
            f.tests.to_string(),
            significant,
            file,
        ]));
    }
    let mut text = format!(
        "{}{}\n{} cell–gene–peak weights of {cells} cells in {}\n",
        aligned(&rows),
        "attention mostly follows how many cells have both gene and peak: it is no list of links",
        d.pairs,
        out.join(&d.file).display()
    );
    let tested = d.cell_types.iter().chain([&d.all]).any(|f| f.tested > 0);
    text += match d.null {
        Null::Matched | Null::Shuffled if !tested => {
            "attention was not tested: too few pairs within or beyond --window, or no gene has a TSS (prepare --gtf) or no peak \
             a place\n"
        }
        Null::Matched => "tested: pairs within the window, against those beyond it that are alike in gene and peak\n",
        Null::Shuffled => "tested: all pairs of one chromosome, against attention on shuffled pairings\n",
        Null::None => "",
    };
    if d.resumed > 0 {
        text += &format!("{} passes over a cell were taken over from a discovery that was stopped\n", d.resumed);
    }
    text
}

/// Binding sites against attention: the values of all cells, with z-scores against matched peaks in brackets.
fn tf_table(t: &TfComparison) -> String {
    let mut out = String::new();
    for s in &t.tracks {
        let lost = match s.unknown_chromosome {
            0 => String::new(),
            n => format!(" ({n} on chromosomes that the data lack)"),
        };
        out += &format!("{}: {} intervals{lost}, {} peaks overlapped\n", s.name, s.intervals, s.overlapped);
    }
    let mut rows = vec![vec!["tf".to_string(), "cell type".into()]];
    for (i, row) in t.rows.iter().chain(&t.evidence).enumerate() {
        if i == 0 {
            rows[0].extend(row.measures.iter().map(|m| m.measure.clone()));
        }
        let mut line = vec![row.tf.clone(), row.cell_type.clone()];
        line.extend(row.measures.iter().map(|m| match m.zscore {
            Some(z) => format!("{} ({z:+.1})", number(m.value)),
            None => number(m.value),
        }));
        rows.push(line);
    }
    out += &aligned(&rows);
    out += &format!(
        "in brackets: standard deviations above {} permutations among peaks alike in accessibility, width and GC\n",
        t.permutations
    );
    out
}

/// The table of link recovery.
pub(super) fn recovery_table(r: &Recovery) -> String {
    let heads = ["links found by", "AUROC", "AUPRC", "AUPRC / chance", "AUROC near", "AUPRC / chance near"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    let lift = |x: Option<f64>| x.map_or("NaN".into(), |x| format!("{x:.2}"));
    for (i, s) in r.scores.iter().enumerate() {
        let mut row = vec![s.score.clone(), number(s.auroc), number(s.auprc), lift(s.auprc_over_chance)];
        if let Some(s) = r.near.as_ref().and_then(|n| n.scores.get(i)) {
            row.extend([number(s.auroc), lift(s.auprc_over_chance)]);
        }
        rows.push(row);
    }
    let mut out = aligned(&rows);
    let chance = r.chance.map_or("NaN".into(), |c| format!("{c:.5}"));
    out += &match r.tested {
        true => format!("among {} tested pairs, {} of them links (chance AUPRC {chance})\n", r.pairs, r.links),
        false => {
            format!(
                "{} known links among {} gene–peak pairs of equal chromosome (chance AUPRC {chance})\n",
                r.links, r.pairs
            )
        }
    };
    if let Some(n) = &r.near {
        out += &format!("near: {} links among {} pairs within 500 kb\n", n.links, n.pairs);
    }
    if r.links_missing + r.links_off_chromosome > 0 {
        out += &format!(
            "left out: {} {} whose gene or peak the data lack, {} between chromosomes\n",
            r.links_missing,
            if r.tested { "tested pairs" } else { "links" },
            r.links_off_chromosome
        );
    }
    if r.untested > 0 {
        out += &format!("left out: {} lines that do not say whether they are a link\n", r.untested);
    }
    if r.unread > 0 {
        out += &format!("left out: {} lines that cannot be read\n", r.unread);
    }
    out
}
