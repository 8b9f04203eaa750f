//! The page's beginning: what went in, what was found and what is doubtful, in words.

use std::fmt::Write;

use super::html::{counted, share};
use super::links::LinksFound;
use crate::dataset::DataSet;
use crate::discover::DiscoveryFolder;
use crate::discover::evidence::table::{LinksSummary, short};
use crate::error::Result;
use crate::evaluate::health::{self, Finding};
use crate::evaluate::{Evaluation, TowerEvaluation};
use crate::picture::{escaped, thousands};
use crate::progress::Progress;
use crate::train::{Checkpoint, Run};

/// Least share of claims whose sign holds in the other half.
const HOLDS: (f64, f64) = (0.7, 0.9);
/// What a model is for: where a simple method is better at one of these, that is a doubt.
const MAIN: [&str; 3] = ["FOSCTTM", "among the first 10", "Pearson by gene"];

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Bad,
    Doubtful,
    Unknown,
    Good,
}

impl Level {
    /// Below the first bound bad, below the second doubtful.
    fn of(x: f64, (bad, fair): (f64, f64)) -> Self {
        if x < bad {
            Level::Bad
        } else if x < fair {
            Level::Doubtful
        } else {
            Level::Good
        }
    }

    /// Class, sign and word.
    fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Level::Bad => ("doubt", "■", "bad"),
            Level::Doubtful => ("look", "▲", "doubtful"),
            Level::Unknown => ("unknown", "○", "not known"),
            Level::Good => ("good", "●", "good"),
        }
    }
}

/// One thing that results stand or fall with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Light {
    pub level: Level,
    pub what: &'static str,
    /// What was seen.
    pub seen: String,
    /// What helps, where it is not good.
    pub remedy: String,
}

fn light(level: Level, what: &'static str, seen: String, remedy: &str) -> Light {
    let remedy = if level == Level::Good { String::new() } else { remedy.to_string() };
    Light { level, what, seen, remedy }
}

/// What the links are judged by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LinksKnown {
    pub selected: u64,
    pub max_q: f64,
    /// Had the mixture settled?
    pub converged: Option<bool>,
    /// Column and number of replicates.
    pub replicates: Option<(String, usize)>,
    /// Claims of one half of the cells that the other tests, and those whose sign holds there.
    pub claimed: Option<[u64; 2]>,
}

impl LinksKnown {
    pub fn of(l: &LinksSummary) -> Self {
        LinksKnown {
            selected: l.selected,
            max_q: l.selection.max_q,
            converged: l.mixture.as_ref().map(|m| m.converged),
            replicates: l.replicates.as_ref().map(|r| (r.column.clone(), r.names.len())),
            claimed: l.agreement.as_ref().map(|a| a.claimed),
        }
    }
}

/// What the lights are of.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    /// What `check` says of the data.
    pub data: Vec<Finding>,
    pub links: Option<LinksKnown>,
    /// Where simple methods are better; `None` where that was not measured.
    pub below: Option<Vec<String>>,
}

impl Known {
    pub fn of(data: Vec<Finding>, found: Option<&DiscoveryFolder>, e: Option<&Evaluation>) -> Self {
        let towers = e.and_then(|e| e.towers.as_ref());
        Known {
            data,
            links: found.map(|f| LinksKnown::of(&f.made.links)),
            below: towers.filter(|t| t.baselines.is_some()).map(|t| t.below.clone()),
        }
    }
}

/// Every light, in the order of the work.
pub(super) fn lights(k: &Known) -> Vec<Light> {
    let mut out: Vec<Light> = k.data.iter().map(of_data).collect();
    match &k.links {
        Some(l) => out.extend(of_links(l)),
        None => out.push(light(
            Level::Unknown,
            "Links",
            "no discovery was given".into(),
            "Run discover, and give its folder with --discovery.",
        )),
    }
    out.push(beside_baselines(k.below.as_deref()));
    out
}

fn of_data(f: &Finding) -> Light {
    let level = match f.light {
        health::Light::Good => Level::Good,
        health::Light::Doubtful => Level::Doubtful,
        health::Light::Bad => Level::Bad,
    };
    let seen = if f.reason.is_empty() { f.value.clone() } else { format!("{}: {}", f.value, f.reason) };
    light(level, f.what, seen, &sentence(&f.remedy))
}

/// With a capital, and a full stop.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), rest.as_str()))
}

fn of_links(l: &LinksKnown) -> Vec<Light> {
    let mut out = Vec::new();
    let (level, seen) = match &l.replicates {
        Some((column, n)) if *n > 1 => (Level::Good, format!("{n} replicates (column {column})")),
        Some((column, _)) => (Level::Doubtful, format!("one replicate alone (column {column})")),
        None => (Level::Doubtful, "none: whether links hold in another sample was not seen".to_string()),
    };
    let remedy = "Name the column of samples or donors with discover --replicates COLUMN; without one, confirm links in a second sample.";
    out.push(light(level, "Replicates", seen, remedy));
    if let Some([claimed, held]) = l.claimed.filter(|c| c[0] > 0) {
        let x = held as f64 / claimed as f64;
        let seen = format!(
            "{held} of {} of one half of the cells point the same way in the other half",
            counted(claimed, "link")
        );
        let level = if claimed < 10 { Level::Doubtful } else { Level::of(x, HOLDS) };
        out.push(light(
            level,
            "Links hold in other cells",
            seen,
            "Take a smaller q (discover --max-q 0.01), or add cells.",
        ));
    }
    let q = short(l.max_q);
    let (level, seen) = match (l.selected, l.converged) {
        (0, _) => (Level::Bad, format!("none with q of at most {q}")),
        (n, Some(false)) => {
            (Level::Bad, format!("{}, but the fit had not settled: probabilities are rough", counted(n, "link")))
        }
        (n, _) if n < 20 => (Level::Doubtful, format!("only {} with q of at most {q}", counted(n, "link"))),
        (n, _) => (Level::Good, format!("{} with q of at most {q}, and the fit has settled", counted(n, "link"))),
    };
    let remedy = match l.selected {
        0..20 => {
            "Few pairs stand out of chance. More cells or deeper ATAC help; a larger q (discover --max-q 0.2) is a list to test, not a result."
        }
        _ => {
            "Rank by effect and q rather than by probability, and discover again with more cells or a smaller --window."
        }
    };
    out.push(light(level, "Links stand out", seen, remedy));
    out
}

fn beside_baselines(below: Option<&[String]>) -> Light {
    let what = "Model beside simple methods";
    let Some(below) = below else {
        let remedy = "Train with a recipe that has towers (default, fast), and leave --no-evaluate out.";
        return light(Level::Unknown, what, "not measured".into(), remedy);
    };
    if below.is_empty() {
        return light(Level::Good, what, "no simple method is better at anything measured".into(), "");
    }
    // What is told the cell type is no method for cells that have none.
    let main = below.iter().any(|b| !b.contains("(told)") && MAIN.iter().any(|m| b.starts_with(m)));
    let few: Vec<&str> = below.iter().take(3).map(String::as_str).collect();
    let more = if below.len() > few.len() { format!(" and {} more", below.len() - few.len()) } else { String::new() };
    light(
        if main { Level::Bad } else { Level::Doubtful },
        what,
        format!("a simple method is better at {}{more}", few.join("; ")),
        "For these take the simple method’s numbers, or train longer (--recipe default, more cells). Links do not depend on it.",
    )
}

/// What went in.
fn went_in(data: &DataSet) -> String {
    let v = data.vocabulary();
    let (n, (rna, atac)) = (data.n_cells() as u64, data.entries());
    let per = |x: u64| x as f64 / n.max(1) as f64;
    let types = match v.cell_types.len() {
        0 => "no cell types given".to_string(),
        k => counted(k as u64, "cell type"),
    };
    format!(
        "<b>{}</b> ({types}) with <b>{}</b> and <b>{}</b>; a cell has {:.0} genes and {:.0} open peaks on average.",
        counted(n, "cell"),
        counted(v.genes.len() as u64, "gene"),
        counted(v.peaks.len() as u64, "peak"),
        per(rna),
        per(atac),
    )
}

fn kilobases(x: f64) -> String {
    if x < 1000.0 { format!("{x:.0} bases") } else { format!("{:.0}\u{a0}kb", x / 1000.0) }
}

/// What was found of links.
fn of_found(found: &DiscoveryFolder, links: &LinksFound) -> Vec<String> {
    let l = &found.made.links;
    let q = l.selection.max_q;
    let mut out = Vec::new();
    let mut text = format!(
        "<b>{}</b> between a gene and a peak at q ≤ {} (about {:.0} of them are expected to be false), of {} tested within {}.",
        counted(l.selected, "link"),
        short(q),
        (q * l.selected as f64).ceil(),
        counted(l.pairs, "pair"),
        kilobases(found.made.window),
    );
    if l.selected > 0 {
        let _ = write!(
            text,
            " They are of {} and {}",
            counted(links.genes as u64, "gene"),
            counted(links.peaks as u64, "peak")
        );
        if let Some(far) = links.median {
            let far = kilobases(far);
            let _ =
                write!(text, ", half of them within {far} of the transcription start and {} beyond 2 kb", links.distal);
        }
        text.push('.');
    }
    out.push(text);
    if !links.top.is_empty() {
        let names = links
            .top
            .iter()
            .map(|(name, n)| format!("<a href=\"#gene={}\">{}</a> ({n})", encoded(name), escaped(name)));
        out.push(format!("Genes with most links: {}.", names.collect::<Vec<_>>().join(", ")));
    }
    out
}

/// A name as part of an address.
fn encoded(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// What the towers say of cells that training has not seen.
fn of_towers(t: &TowerEvaluation) -> Vec<String> {
    let mut out = Vec::new();
    let b = t.baselines.as_ref();
    let than = |x: Option<f64>, name: &str| x.map_or(String::new(), |x| format!("; {name} {}", share(x)));
    if let Some(x) = t.partners.among_10 {
        out.push(format!(
            "Partners: for <b>{}</b> of the cells that training has not seen the true partner is among the best 10 of {} (chance {}{}).",
            share(x),
            thousands(t.partners.cells),
            share(10f64.min(t.partners.cells as f64) / t.partners.cells.max(1) as f64),
            than(b.and_then(|b| b.cca_partners.among_10), "canonical correlation"),
        ));
    }
    if let Some(x) = t.labels_across.and_then(|l| l.accuracy) {
        out.push(format!(
            "Labels: <b>{}</b> of their cell types are told rightly from ATAC by the RNA of other cells{}.",
            share(x),
            b.and_then(|b| b.labels_cca)
                .and_then(|l| l.accuracy)
                .map_or(String::new(), |x| format!(" (canonical correlation {})", share(x))),
        ));
    }
    if let Some((e, x)) = t.expression.and_then(|e| Some((e, e.pearson_gene?))) {
        let ridge =
            b.and_then(|b| b.ridge.pearson_gene).map_or(String::new(), |x| format!(" (ridge regression {x:.2})"));
        out.push(format!(
            "Expression told from ATAC correlates with the measured one by <b>{x:.2}</b> a gene on average over {}{ridge}.",
            counted(e.genes, "gene")
        ));
    }
    out
}

/// Text in which what stands between backticks is code.
fn coded(text: &str) -> String {
    let part = |(i, t): (usize, &str)| {
        let t = escaped(t);
        if i % 2 == 1 { format!("<code>{t}</code>") } else { t.to_string() }
    };
    text.split('`').enumerate().map(part).collect()
}

fn list(out: &mut String, title: &str, items: &[String]) {
    let _ = write!(out, "<h3>{title}</h3>\n<ul>");
    items.iter().for_each(|i| *out += &format!("<li>{i}</li>\n"));
    *out += "</ul>\n";
}

/// The section's body.
pub(super) fn summary(
    data: Option<&DataSet>,
    run: Option<&Run>,
    found: Option<(&DiscoveryFolder, &LinksFound)>,
    e: Option<&Evaluation>,
    progress: &dyn Progress,
) -> Result<String> {
    let mut out = String::new();
    let checked = data.map(|d| health::health(d, progress)).transpose()?.unwrap_or_default();
    let known = Known::of(checked, found.map(|f| f.0), e);
    let lights = lights(&known);
    let count = |level: Level| lights.iter().filter(|l| l.level == level).count();
    let counts = [Level::Bad, Level::Doubtful, Level::Unknown, Level::Good].map(|l| (l, count(l)));
    let chips = counts.iter().filter(|c| c.1 > 0).map(|&(level, n)| {
        let (class, sign, word) = level.shown();
        format!("<span class=\"light {class}\"><span aria-hidden=\"true\">{sign}</span> {n} {word}</span>")
    });
    let _ = writeln!(out, "<p class=\"verdict\">{}</p>", chips.collect::<Vec<_>>().join(" "));
    out += "<div class=\"side\"><div>";
    let mut items = data.map(went_in).into_iter().collect::<Vec<_>>();
    items.extend(run.map(|r| {
        let same = data.is_none_or(|d| d.hash() == r.data_hash());
        let other = if same { "" } else { " <b>on other data than these</b>" };
        let done = r.checkpoint_path(Checkpoint::Best).exists();
        let how = if done { "A model trained by" } else { "A training that has not come to its first epoch yet, of" };
        format!("{how} recipe <b>{}</b>{other}.", escaped(&r.config.recipe))
    }));
    if items.is_empty() {
        items.push("The data set is not at hand.".into());
    }
    list(&mut out, "What went in", &items);
    let mut items = found.map_or_else(Vec::new, |(f, l)| of_found(f, l));
    items.extend(e.and_then(|e| e.towers.as_ref()).map_or_else(Vec::new, of_towers));
    if items.is_empty() {
        items.push("Nothing was computed: neither links nor measures of the model were given.".into());
    }
    list(&mut out, "What was found", &items);
    out += "</div><div><h3>How far to trust it</h3>\n<ul class=\"lights\">";
    let mut order: Vec<&Light> = lights.iter().collect();
    order.sort_by_key(|l| l.level);
    let mut folded = false;
    for l in order {
        // What is good is one click away.
        if l.level == Level::Good && !folded {
            folded = true;
            let _ = write!(
                out,
                "</ul>\n<details><summary>{} that are good</summary><ul class=\"lights\">",
                count(Level::Good)
            );
        }
        let (class, sign, word) = l.level.shown();
        let _ = write!(
            out,
            "<li class=\"{class}\"><span class=\"light {class}\"><span aria-hidden=\"true\">{sign}</span> {word}</span> \
             <b>{}</b>: {}.",
            l.what,
            coded(&l.seen)
        );
        if !l.remedy.is_empty() {
            let _ = write!(out, "<span class=\"remedy\">{}</span>", coded(&l.remedy));
        }
        out += "</li>\n";
    }
    Ok(out + if folded { "</ul></details></div></div>\n" } else { "</ul></div></div>\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(what: &'static str, light: health::Light) -> Finding {
        let text = |t: &str| if light == health::Light::Good { String::new() } else { t.to_string() };
        Finding { what, light, value: "9".into(), reason: text("few"), remedy: text("add some") }
    }

    fn good() -> Known {
        Known {
            data: vec![of("cells", health::Light::Good)],
            links: Some(LinksKnown {
                selected: 900,
                max_q: 0.1,
                converged: Some(true),
                replicates: Some(("donor".into(), 4)),
                claimed: Some([100, 97]),
            }),
            below: Some(Vec::new()),
        }
    }

    fn level(k: &Known, what: &str) -> Level {
        let lights = lights(k);
        let found = lights.iter().find(|l| l.what == what).unwrap_or_else(|| panic!("{what}: {lights:?}"));
        assert_eq!(found.level == Level::Good, found.remedy.is_empty(), "{found:?}");
        found.level
    }

    #[test]
    fn all_is_well() {
        let lights = lights(&good());
        assert!(lights.len() >= 5 && lights.iter().all(|l| l.level == Level::Good), "{lights:?}");
    }

    #[test]
    fn each_doubt_has_its_light() {
        let mut k = good();
        k.data = vec![of("cells", health::Light::Bad), of("split", health::Light::Doubtful)];
        assert_eq!((level(&k, "cells"), level(&k, "split")), (Level::Bad, Level::Doubtful));
        assert_eq!((lights(&k)[0].seen.as_str(), lights(&k)[0].remedy.as_str()), ("9: few", "Add some."));
        let mut links = |change: fn(&mut LinksKnown), what: &str, want: Level| {
            let mut l = good().links.unwrap();
            change(&mut l);
            k.links = Some(l);
            assert_eq!(level(&k, what), want);
        };
        links(|l| l.replicates = None, "Replicates", Level::Doubtful);
        links(|l| l.replicates = Some(("batch".into(), 1)), "Replicates", Level::Doubtful);
        links(|l| l.claimed = Some([100, 60]), "Links hold in other cells", Level::Bad);
        links(|l| l.claimed = Some([5, 5]), "Links hold in other cells", Level::Doubtful);
        links(|l| l.converged = Some(false), "Links stand out", Level::Bad);
        links(|l| l.selected = 0, "Links stand out", Level::Bad);
        links(|l| l.selected = 7, "Links stand out", Level::Doubtful);
        k.links = None;
        assert_eq!(level(&k, "Links"), Level::Unknown);
        k.below = Some(vec!["RMSE: 1, ridge on LSI 0.5".into()]);
        assert_eq!(level(&k, "Model beside simple methods"), Level::Doubtful);
        k.below = Some(vec!["Pearson by gene: 0.1, gene × type (told) 0.2".into()]);
        assert_eq!(level(&k, "Model beside simple methods"), Level::Doubtful);
        k.below = Some(vec!["FOSCTTM: 0.1, CCA 0.05".into()]);
        assert_eq!(level(&k, "Model beside simple methods"), Level::Bad);
        k.below = None;
        assert_eq!(level(&k, "Model beside simple methods"), Level::Unknown);
    }

    #[test]
    fn backticks_make_code() {
        assert_eq!(coded("run `a <b>` first"), "run <code>a &lt;b&gt;</code> first");
    }

    #[test]
    fn names_in_addresses() {
        assert_eq!(encoded("H2-K1"), "H2-K1");
        assert_eq!(encoded("</a>\""), "%3C%2Fa%3E%22");
    }
}
