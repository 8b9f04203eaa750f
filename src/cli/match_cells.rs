//! `match`: partners of cells, ranked.

use std::path::PathBuf;

use serde_json::json;

use super::context::{Context, DeviceArg, LARGE_TABLE, Which, output_file};
use crate::dataset::DataSet;
use crate::discover::evidence::table::write_table;
use crate::discover::maps::field;
use crate::engine::Runner;
use crate::error::{Error, Result, quoted};
use crate::evaluate::Part;
use crate::model::Towers;
use crate::predict::Chosen;
use crate::predict::partners::{MatchOptions, PartnerMetrics, Query, rank};
use crate::predict::towers::{TowerMatches, doubts, rank_by_towers};
use crate::table::{aligned, number};
use crate::train::Run;

/// Flags of `match`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run: the --out folder of `train`
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// Data with the RNA: the --out folder of `prepare`
    #[arg(long, value_name = "DATA")]
    rna: PathBuf,
    /// Data with the ATAC, of the same genes and peaks (prepare --like); may be the same folder
    #[arg(long, value_name = "DATA")]
    atac: PathBuf,
    /// For whom partners are ranked: each RNA profile, or each ATAC profile
    #[arg(long, value_enum, default_value_t)]
    query: Query,
    /// Partners listed of each
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Which cells of both sides: those of a part of the run's cells, or all
    #[arg(long, value_enum, default_value_t = Part::All)]
    part: Part,
    /// What scores pairs: the towers, or the attention model [default: towers, where the run has them]
    #[arg(long, value_enum, value_name = "towers|model")]
    scores: Option<Scores>,
    /// Table to write of doubtful cells: for each of both sides whether its RNA and ATAC are of one cell, and whether it may be
    /// two
    #[arg(long, value_name = "F.tsv")]
    doubts: Option<PathBuf>,
    /// With --scores model: cells of each side that every cell of the other is scored against, to find candidates
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    anchors: u32,
    /// With --scores model: candidates of each that go through the model
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    candidates: u32,
    /// With --scores model: pass every pair through it
    #[arg(long, conflicts_with_all = ["candidates", "anchors"])]
    exact: bool,
    #[command(flatten)]
    which: Which,
    /// With --scores model: pairs a forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Table to write: rna_cell (or atac_cell), rank, the partner's atac_cell (or rna_cell), probability, pair_probability,
    /// score, part; with --scores model: probability, logit
    #[arg(long, value_name = "F.tsv")]
    out: PathBuf,
    /// Compress no table, however large [default: above 50 MB .gz is put to its name]
    #[arg(long)]
    no_gzip: bool,
    /// Replace --out
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArg,
}

/// What scores a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Scores {
    /// The product of its vectors.
    Towers,
    /// A pass through the attention model.
    Model,
}

/// Where partners go: to --out, compressed where its name ends in .gz, and under that name where the table is large.
fn table_path(args: &Args, rows: usize, names: &[String], ctx: &Context) -> Result<PathBuf> {
    /// Numbers of a row, and what parts them.
    const NUMBERS: usize = 60;
    let name = names.first().map_or(0, String::len);
    let bytes = (rows * (2 * name + NUMBERS)) as u64;
    if args.no_gzip || bytes <= LARGE_TABLE || args.out.extension().is_some_and(|e| e == "gz") {
        return Ok(args.out.clone());
    }
    let mut packed = args.out.clone().into_os_string();
    packed.push(".gz");
    let packed = PathBuf::from(packed);
    output_file(&packed, args.force)?;
    ctx.say(&format!("the table would take about {} MB: it is compressed, as {}", bytes / 1_000_000, packed.display()));
    Ok(packed)
}

/// Ranks, writes and prints.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let device = args.device.choose()?;
    let run = args.which.open(&args.run)?;
    output_file(&args.out, args.force)?;
    if let Some(doubts) = &args.doubts {
        output_file(doubts, args.force)?;
    }
    let (rna, atac) = (ctx.open_data(&args.rna)?, ctx.open_data(&args.atac)?);
    let of_model = args.scores == Some(Scores::Model) || args.exact;
    let towers = if of_model { None } else { run.towers(&rna)? };
    match towers {
        Some(of_rna) => return by_towers(args, ctx, &run, &of_rna, [&rna, &atac]),
        None if args.scores == Some(Scores::Towers) => {
            return Err(Error::usage("--scores towers: the run was trained without towers; leave it out"));
        }
        None if args.doubts.is_some() || args.part != Part::All => {
            return Err(Error::usage("--doubts and --part: are of the towers, and --scores model does without them"));
        }
        None => {}
    }
    let model = run.model(&rna, args.which.checkpoint)?;
    let options = MatchOptions {
        query: args.query,
        top: args.top as usize,
        candidates: args.candidates.max(args.top) as usize,
        anchors: args.anchors as usize,
        exact: args.exact,
        batch_size: args.batch_size as usize,
        seed: ctx.seed,
    };
    let found = rank(Runner::new(&model, &device)?, &rna, &atac, &options, &ctx.follow())?;
    let (queries, targets) = match args.query {
        Query::Rna => (rna.vocabulary(), atac.vocabulary()),
        Query::Atac => (atac.vocabulary(), rna.vocabulary()),
    };
    let rows = found.partners.iter().map(Vec::len).sum();
    let path = table_path(args, rows, &queries.cells, ctx)?;
    write_table(&path, |out| {
        let [q, t] = if args.query == Query::Rna { ["rna", "atac"] } else { ["atac", "rna"] };
        writeln!(out, "{q}_cell\trank\t{t}_cell\tprobability\tlogit")?;
        for (name, partners) in queries.cells.iter().zip(&found.partners) {
            for (k, p) in partners.iter().enumerate() {
                let partner = field(&targets.cells[p.cell as usize]);
                writeln!(out, "{}\t{}\t{partner}\t{:e}\t{:e}", field(name), k + 1, p.probability, p.logit)?;
            }
        }
        Ok(())
    })?;
    let stages = match found.exact {
        true => "every pair went through the model: exact",
        false => "candidates by scores completed from those of anchors (an approximation), ranked by the model (exact)",
    };
    let mut text = format!(
        "{} queries × {} targets; {} pairs went through the model\n{stages}\n",
        queries.cells.len(),
        targets.cells.len(),
        found.scored
    );
    text += &match &found.metrics {
        Some(m) => metrics_table(m, options.top),
        None => "no cell of one name is on both sides, so nothing can be said of how well partners are found\n".into(),
    };
    text += &format!("partners in {}\n", path.display());
    let json = json!({
        "out": path.display().to_string(), "queries": queries.cells.len(), "targets": targets.cells.len(),
        "scored": found.scored, "exact": found.exact, "anchors": options.anchors, "top": options.top,
        "candidates": options.candidates, "metrics": found.metrics,
    });
    ctx.result(&text, &json);
    ctx.next("", &format!("sccrossrec embed --run {} --out embedding.h5ad", quoted(&args.run)));
    Ok(())
}

/// Ranks by the towers.
fn by_towers(args: &Args, ctx: &Context, run: &Run, towers: &Towers<f32>, data: [&DataSet; 2]) -> Result<()> {
    let [rna, atac] = data;
    let same = rna.hash() == atac.hash();
    if !same && run.towers(atac)?.is_none_or(|t| t.config() != towers.config()) {
        return Err(Error::input(
            atac.dir(),
            "has other genes or peaks than the data with the RNA",
            "prepare one of them with --like the other",
        ));
    }
    let chosen = [Chosen::new(run, rna, args.part)?, Chosen::new(run, atac, args.part)?];
    let [of_rna, of_atac] = [&chosen[0].cells, &chosen[1].cells];
    let found = rank_by_towers(towers, (rna, of_rna), (atac, of_atac), args.query, args.top as usize, &ctx.follow())?;
    let TowerMatches { partners, metrics, known } = &found;
    let (q, t) = if args.query == Query::Rna { (0, 1) } else { (1, 0) };
    let name = |side: usize, i: usize| field(&data[side].vocabulary().cells[chosen[side].cells[i] as usize]);
    let names = ["rna", "atac"];
    let rows = partners.iter().map(Vec::len).sum();
    let path = table_path(args, rows, &data[q].vocabulary().cells, ctx)?;
    write_table(&path, |out| {
        writeln!(out, "{}_cell\trank\t{}_cell\tprobability\tpair_probability\tscore\tpart", names[q], names[t])?;
        for (i, partners) in partners.iter().enumerate() {
            for (k, p) in partners.iter().enumerate() {
                writeln!(
                    out,
                    "{}\t{}\t{}\t{:e}\t{:e}\t{:e}\t{}",
                    name(q, i),
                    k + 1,
                    name(t, p.cell as usize),
                    p.probability,
                    p.pair_probability,
                    p.score,
                    chosen[q].part[i]
                )?;
            }
        }
        Ok(())
    })?;
    let mut swapped = None;
    if let Some(path) = &args.doubts {
        if !same {
            return Err(Error::usage("--doubts: --rna and --atac must be the same data"));
        }
        let all = doubts(towers, rna, of_rna, ctx.seed, &ctx.follow())?;
        write_table(path, |out| {
            writeln!(out, "cell\town_score\tcloser\tpair_probability\tp_swapped\tq_swapped\tdoublet_score\tpart")?;
            for (i, d) in all.iter().enumerate() {
                writeln!(
                    out,
                    "{}\t{:e}\t{:e}\t{:e}\t{:e}\t{:e}\t{:e}\t{}",
                    name(0, i),
                    d.own_score,
                    d.closer,
                    d.pair_probability,
                    d.p_swapped,
                    d.q_swapped,
                    d.doublet_score,
                    chosen[0].part[i]
                )?;
            }
            Ok(())
        })?;
        swapped = Some(all.iter().filter(|d| d.q_swapped < 0.1).count());
    }
    let mut text = format!("{} queries × {} targets, scored by the towers\n", partners.len(), chosen[t].cells.len());
    match metrics {
        Some(m) => {
            let chance = crate::evaluate::PartnerMetrics::chance(*known as usize, None);
            type Of = fn(&crate::evaluate::PartnerMetrics) -> Option<f64>;
            let lines: [(&str, Of); 6] = [
                ("first", |m| m.first),
                ("among the first 5", |m| m.among_5),
                ("among the first 10", |m| m.among_10),
                ("match score", |m| m.match_score),
                ("FOSCTTM", |m| m.foscttm),
                ("AUROC, any other cell", |m| m.auroc_any),
            ];
            let mut rows = vec![["true partner, both ways", "found", "chance"].map(String::from).to_vec()];
            rows.extend(lines.iter().map(|(n, f)| vec![n.to_string(), number(f(m)), number(f(&chance))]));
            text += &format!("{}{known} cells are on both sides", aligned(&rows));
            text += if args.part == Part::All && same { "; those of training among them: --part test\n" } else { "\n" };
        }
        None => text += "no cell of one name is on both sides, so nothing can be said of how well partners are found\n",
    }
    if let (Some(n), Some(path)) = (swapped, &args.doubts) {
        text += &format!("{n} cells whose RNA and ATAC may not be of one cell (q < 0.1); all in {}\n", path.display());
    }
    text += &format!("partners in {}\n", path.display());
    let json = json!({
        "out": path.display().to_string(), "queries": partners.len(), "targets": chosen[t].cells.len(),
        "scores": "towers", "top": args.top, "known": known, "metrics": metrics, "swapped": swapped,
    });
    ctx.result(&text, &json);
    let run = quoted(&args.run);
    match args.doubts.is_none() && same {
        true => {
            let [rna, atac] = [rna, atac].map(|d| quoted(d.dir()));
            let files = "--out partners.tsv --doubts doubts.tsv --force";
            ctx.next("", &format!("sccrossrec match --run {run} --rna {rna} --atac {atac} {files}"));
        }
        false => ctx.next("", &format!("sccrossrec embed --run {run} --out embedding.h5ad")),
    }
    Ok(())
}

fn metrics_table(m: &PartnerMetrics, top: usize) -> String {
    let row = |name: &str, [x, chance]: [f64; 2]| vec![name.to_string(), number(Some(x)), number(Some(chance))];
    let mut rows = vec![["true partner", "found", "chance"].map(String::from).to_vec()];
    rows.push(row("first", m.top1));
    rows.push(row(&format!("among the first {}", top.min(5)), m.top5));
    rows.push(row(&format!("among the first {top}"), m.listed));
    rows.push(row("match score", m.match_score));
    rows.push(vec!["FOSCTTM by score".into(), number(m.foscttm), number(Some(0.5))]);
    rows.push(vec!["FOSCTTM by distance".into(), number(m.foscttm_distance), number(Some(0.5))]);
    format!(
        "{}{} cells are on both sides; {:.1} % of their partners were among the candidates\n",
        aligned(&rows),
        m.known,
        100.0 * m.candidates
    )
}
