//! Pictures of the table that `benches/compare.sh` writes: step time by batch size, cost by number of cells.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sccrossrec::picture::{Anchor, Ink, Item, Label, Pen, PictureForm, Scene, Shape, Weight, category, text_width};
use sccrossrec::{Error, Result};

/// A row of the table: the columns that pictures need.
#[derive(Debug, Clone)]
struct Row {
    what: String,
    who: String,
    shape: String,
    median: f64,
    extrapolated: bool,
}

/// Who is compared, in the order of colours.
const WHO: [(&str, &str); 3] = [
    ("engine", "sccrossrec"),
    ("published", "published, PyTorch Geometric"),
    ("strengthened", "strengthened, PyTorch"),
];

fn read(paths: &[PathBuf]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in paths {
        let bad = |found: String| Error::input(path, found, "give a compare.csv of `benches/compare.sh`");
        let mut reader = csv::Reader::from_path(path).map_err(|e| bad(e.to_string()))?;
        for record in reader.records() {
            let r = record.map_err(|e| bad(e.to_string()))?;
            let field = |i: usize| r.get(i).unwrap_or_default().to_string();
            let median = field(4).parse().map_err(|_| bad(format!("{:?} is no number", field(4))))?;
            let extrapolated = field(8) == "yes";
            rows.push(Row { what: field(0), who: field(1), shape: field(2), median, extrapolated });
        }
    }
    Ok(rows)
}

impl Row {
    fn cells(&self) -> f64 {
        self.shape.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
    }
}

/// Points of one contestant: x, y, and is it extrapolated.
type Series = Vec<(f64, f64, bool)>;

/// Axes of logarithms within x, y, width, height.
struct Axes {
    at: [f32; 4],
    x: [f64; 2],
    y: [f64; 2],
}

impl Axes {
    fn around(at: [f32; 4], series: &[Series; 3]) -> Option<Axes> {
        let all = || series.iter().flatten();
        let range = |f: fn(&(f64, f64, bool)) -> f64, room: f64| {
            let (lo, hi) = all().map(f).fold((f64::INFINITY, 0f64), |(a, b), v| (a.min(v), b.max(v)));
            (lo > 0.0 && hi.is_finite()).then(|| [(lo.log10() - room), (hi.log10() + room)])
        };
        Some(Axes { at, x: range(|p| p.0, 0.12)?, y: range(|p| p.1, 0.25)? })
    }

    fn px(&self, x: f64) -> f32 {
        self.at[0] + self.at[2] * ((x.log10() - self.x[0]) / (self.x[1] - self.x[0])) as f32
    }

    fn py(&self, y: f64) -> f32 {
        self.at[1] + self.at[3] * (1.0 - ((y.log10() - self.y[0]) / (self.y[1] - self.y[0])) as f32)
    }

    fn draw(&self, s: &mut Scene, title: &str, names: [&str; 2], marks: &[f64]) {
        let [x, y, w, h] = self.at;
        label(s, (x, y - 16.0), title, 17.0, Anchor::Start, Weight::Medium, 0.0);
        let (first, last) = (self.y[0].ceil() as i32, self.y[1].floor() as i32);
        // One, two and five of a power where the range is short.
        let steps: &[f64] = if last - first < 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let ticks = (first - 1..=last).flat_map(|p| steps.iter().map(move |m| m * 10f64.powi(p)));
        let mut widest = 0f32;
        for t in ticks.filter(|t| (self.y[0]..=self.y[1]).contains(&t.log10())) {
            s.line((x, self.py(t)), (x + w, self.py(t)), Pen::new(Ink::Grid, 1.0));
            let text = number(t);
            widest = widest.max(text_width(&text, 14.0, Weight::Regular));
            s.text(x - 8.0, self.py(t) + 5.0, text, 14.0, Ink::Text, Anchor::End);
        }
        label(s, (x - widest - 24.0, y + h / 2.0), names[1], 15.0, Anchor::Middle, Weight::Regular, -90.0);
        let mut right = f32::NEG_INFINITY;
        for &m in marks {
            let (at, text) = (self.px(m), number(m));
            s.line((at, y + h), (at, y + h + 5.0), Pen::new(Ink::Text, 1.0));
            let half = text_width(&text, 14.0, Weight::Regular) / 2.0;
            if at - half > right {
                right = at + half + 6.0;
                s.text(at, y + h + 21.0, text, 14.0, Ink::Text, Anchor::Middle);
            }
        }
        s.text(x + w / 2.0, y + h + 44.0, names[0], 15.0, Ink::Text, Anchor::Middle);
        s.polyline(&[(x, y), (x, y + h), (x + w, y + h)], Pen::new(Ink::Text, 1.2));
    }

    /// A line through the points; hollow marks are extrapolated.
    fn series(&self, s: &mut Scene, points: &Series, ink: Ink, shape: Shape) {
        let at: Vec<_> = points.iter().map(|p| (self.px(p.0), self.py(p.1))).collect();
        s.polyline(&at, Pen::new(ink, 2.2));
        for (p, at) in points.iter().zip(at) {
            s.items.push(Item::Points(vec![at], shape, 5.0, ink, 1.0));
            if p.2 {
                s.items.push(Item::Points(vec![at], shape, 3.0, Ink::Paper, 1.0));
            }
        }
    }
}

fn label(s: &mut Scene, (x, y): (f32, f32), text: &str, size: f32, anchor: Anchor, weight: Weight, turn: f32) {
    s.label(Label { x, y, text: text.into(), size, ink: Ink::Text, anchor, weight, turn, halo: false });
}

/// 0.001, 5, 69,249.
fn number(x: f64) -> String {
    if x < 1.0 {
        return format!("{x:.9}").trim_end_matches('0').to_string();
    }
    let digits = format!("{x:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// One panel: its title, the names of its axes, and the points.
struct Panel<'a> {
    title: &'a str,
    names: [&'a str; 2],
    series: [Series; 3],
}

fn scene(title: &str, below: &str, panels: &[Panel<'_>]) -> Scene {
    let mut s = Scene::new(1200.0, 545.0, title);
    s.heading(16.0, title, below);
    for (i, panel) in panels.iter().enumerate() {
        let at = [96.0 + 590.0 * i as f32, 150.0, 470.0, 320.0];
        let mut marks: Vec<f64> = panel.series.iter().flatten().map(|p| p.0).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        let Some(axes) = Axes::around(at, &panel.series) else { continue };
        axes.draw(&mut s, panel.title, panel.names, &marks);
        for (k, points) in panel.series.iter().enumerate() {
            let (ink, shape) = (category(k).0, [Shape::Disc, Shape::Square, Shape::Diamond][k]);
            axes.series(&mut s, points, ink, shape);
        }
    }
    let mut x = 96.0;
    for (k, (_, name)) in WHO.iter().enumerate() {
        if panels.iter().all(|p| p.series[k].is_empty()) {
            continue;
        }
        let shape = [Shape::Disc, Shape::Square, Shape::Diamond][k];
        s.items.push(Item::Points(vec![(x, 95.0)], shape, 5.0, category(k).0, 1.0));
        s.text(x + 12.0, 100.0, *name, 14.0, Ink::Text, Anchor::Start);
        x += 48.0 + text_width(name, 14.0, Weight::Regular);
    }
    s.text(x, 100.0, "(hollow: extrapolated)", 14.0, Ink::Muted, Anchor::Start);
    s
}

fn batches(rows: &[Row], shape: &str) -> [Panel<'static>; 2] {
    let of = |who: &str, what: &str| {
        let points: BTreeMap<u64, f64> = rows
            .iter()
            .filter(|r| r.shape == shape && r.who == who)
            .filter_map(|r| Some((r.what.strip_prefix(what)?.parse().ok()?, r.median)))
            .collect();
        points.into_iter().map(|(x, y)| (x as f64, y, false)).collect::<Series>()
    };
    let mut step = WHO.map(|w| of(w.0, "step, batch "));
    let mut rate = WHO.map(|w| of(w.0, "training, batch "));
    // The published training knows a batch of one: a positive and a negative in the mean.
    let one = |kind: &str| {
        let what = format!("step, batch 1, {kind}");
        rows.iter().find(|r| r.shape == shape && r.who == "published" && r.what == what).map(|r| r.median)
    };
    if let (Some(p), Some(n)) = (one("positive"), one("negative")) {
        step[1] = vec![(1.0, 0.5 * (p + n), false)];
        rate[1] = vec![(1.0, 2.0 / (p + n), false)];
    }
    [
        Panel { title: "A training step", names: ["samples a batch", "seconds"], series: step },
        Panel { title: "Training", names: ["samples a batch", "samples a second"], series: rate },
    ]
}

fn cells(rows: &[Row]) -> [Panel<'static>; 2] {
    let of = |who: &str, what: &str, cost: fn(&Row) -> f64| {
        let mut points: Series = rows
            .iter()
            .filter(|r| r.who == who && r.what == what)
            .map(|r| (r.cells(), cost(r), r.extrapolated))
            .filter(|p| p.0 > 0.0 && p.1 > 0.0)
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let epoch = WHO.map(|w| of(w.0, "epoch", |r| r.median));
    let prepare = WHO.map(|w| of(w.0, "preparation", |r| r.cells() / r.median));
    [
        Panel { title: "An epoch of training", names: ["cells", "seconds"], series: epoch },
        Panel { title: "Preparation", names: ["cells", "seconds"], series: prepare },
    ]
}

/// `batch.svg`, `cells.svg`, and both as PNG.
pub fn plot(out: &Path, paths: &[PathBuf]) -> Result<()> {
    let rows = read(paths)?;
    // Steps by batch size of the data set that was measured at most of them.
    let sizes = |shape: &str| rows.iter().filter(|r| r.shape == shape && r.what.starts_with("step, batch ")).count();
    let most = |a: &&Row, b: &&Row| sizes(&a.shape).cmp(&sizes(&b.shape)).then(a.cells().total_cmp(&b.cells()));
    let Some(shape) = rows.iter().max_by(most).map(|r| r.shape.clone()) else {
        return Err(Error::usage("plot: the tables have no rows"));
    };
    let below = format!("{shape} (cells × genes × peaks)");
    let pictures = [
        ("batch", scene("Steps by batch size", &below, &batches(&rows, &shape))),
        ("cells", scene("Cost by number of cells", "", &cells(&rows))),
    ];
    for (name, scene) in pictures {
        for (form, ending) in [(PictureForm::Svg, "svg"), (PictureForm::Png, "png")] {
            let path = out.join(format!("{name}.{ending}"));
            let io = |e: std::io::Error| Error::Internal(format!("{}: {e}", path.display()));
            std::fs::write(&path, form.write(&scene, 1.5)?).map_err(io)?;
        }
    }
    Ok(())
}
