//! The attention of a cell as a map of genes and peaks.

use super::axis::{brief, colour_bar, shade, thousands};
use super::font::Weight;
use super::genome::{Order, names_below, short_name};
use super::scene::{Anchor, Ink, Item, Label, Pen, Scene};
use super::tracks::percentile;

/// What a heat map shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// Genes: the rows, from the top.
    pub genes: Order,
    /// Peaks: the columns.
    pub peaks: Order,
    /// (gene, peak, value), by the numbers that `genes` and `peaks` order; others are left out.
    pub pairs: Vec<(u32, u32, f64)>,
    /// Heading.
    pub title: String,
    /// `[G]` names of genes, written beside the rows where there is room; or none.
    pub gene_names: Vec<String>,
    /// `[P]` the same of peaks, written below every so many columns where the rows have names.
    pub peak_names: Vec<String>,
}

/// Things put together, so that there are at most so many bins or one a chromosome; none spans two chromosomes.
struct Bins {
    /// Things a bin, at most.
    size: usize,
    /// Bins in all.
    count: usize,
    /// Chromosomes: name, first bin, one past the last.
    chroms: Vec<(String, usize, usize)>,
    /// Bin by number of the thing.
    of: std::collections::HashMap<u32, usize>,
}

impl Bins {
    fn new(order: &Order, most: usize) -> Self {
        let size = order.index.len().div_ceil(most.max(1)).max(1);
        let mut bins = Bins { size, count: 0, chroms: Vec::new(), of: std::collections::HashMap::new() };
        for (name, part) in order.parts() {
            let from = bins.count;
            bins.count += part.len().div_ceil(size);
            for (k, &thing) in order.index[part].iter().enumerate() {
                bins.of.insert(thing, from + k / size);
            }
            bins.chroms.push((name.to_string(), from, bins.count));
        }
        bins
    }
}

/// A heat map: rows and columns in genome order, binned to what can be seen, a bin's colour by the sum of its values (cut at
/// the 99.5 percentile of the bins that are not 0; by square roots where most are far below that), lines between chromosomes.
/// 1,200 × 900.
pub fn heat_map(h: &Heat) -> Scene {
    let [x, y, w, height] = [92.0, 84.0, 950.0, 740.0];
    let mut s = Scene::new(1200.0, 900.0, format!("{}: attention between genes and peaks", h.title));
    let (rows, columns) = (Bins::new(&h.genes, 370), Bins::new(&h.peaks, 475));
    let mut sums = vec![0f64; rows.count * columns.count];
    for (gene, peak, value) in &h.pairs {
        if let (Some(r), Some(c)) = (rows.of.get(gene), columns.of.get(peak)) {
            sums[r * columns.count + c] += value;
        }
    }
    let full: Vec<f64> = sums.iter().copied().filter(|v| *v > 0.0).collect();
    let cap = percentile(&full, 0.995).max(f64::MIN_POSITIVE);
    // Most sums far below the cap: roots spread them.
    let roots = percentile(&full, 0.5) < 0.3 * cap;
    let place = |share: f64| if roots { share.sqrt() } else { share };
    let bin = match (rows.size, columns.size) {
        (1, 1) => String::new(),
        (r, c) => format!("; a square is up to {r} × {c}, summed"),
    };
    let note = format!(
        "{} genes × {} peaks, {} pairs with attention{bin}",
        thousands(h.genes.index.len() as u64),
        thousands(h.peaks.index.len() as u64),
        thousands(h.pairs.len() as u64)
    );
    s.heading(16.0, &h.title, &note);
    let place_x = |bin: usize| x + w * bin as f32 / columns.count.max(1) as f32;
    let place_y = |bin: usize| y + height * bin as f32 / rows.count.max(1) as f32;
    if full.is_empty() {
        s.text(x + w / 2.0, y + height / 2.0, "no attention", 17.0, Ink::Muted, Anchor::Middle);
    } else {
        let paper = Ink::Paper.rgb();
        let colours = sums.iter().map(|&v| if v > 0.0 { shade(place(v / cap)) } else { paper }).collect();
        s.items.push(Item::Image([x, y, w, height], columns.count, colours));
    }
    let line = Pen::new(Ink::Grid, 1.0);
    for c in columns.chroms.iter().skip(1) {
        s.line((place_x(c.1), y), (place_x(c.1), y + height), line);
    }
    let named = rows.size == 1 && columns.size == 1 && rows.count <= 48 && !h.gene_names.is_empty();
    let mut free = f32::NEG_INFINITY;
    for (i, (name, from, to)) in rows.chroms.iter().enumerate() {
        if i > 0 {
            s.line((x, place_y(*from)), (x + w, place_y(*from)), line);
        }
        s.line((x - 5.0, place_y(*from)), (x, place_y(*from)), Pen::new(Ink::Text, 1.0));
        let middle = (place_y(*from) + place_y(*to)) / 2.0;
        if !named && middle - 6.0 >= free {
            s.text(x - 9.0, middle + 4.5, short_name(name), 13.0, Ink::Text, Anchor::End);
            free = middle + 7.0;
        }
    }
    s.frame([x, y, w, height], Pen::new(Ink::Text, 1.2));
    let parts: Vec<_> = columns.chroms.iter().map(|(n, from, to)| (n.clone(), place_x(*from), place_x(*to))).collect();
    if named {
        names(&mut s, h, [x, y, w, height]);
    } else {
        names_below(&mut s, y + height, &parts);
    }
    s.text(x + w / 2.0, y + height + 44.0, "peaks by chromosome and position", 15.0, Ink::Text, Anchor::Middle);
    s.label(Label {
        x: 30.0,
        y: y + height / 2.0,
        text: if named { String::new() } else { "genes by chromosome and TSS".into() },
        size: 15.0,
        ink: Ink::Text,
        anchor: Anchor::Middle,
        weight: Weight::Regular,
        turn: -90.0,
        halo: false,
    });
    if !full.is_empty() {
        let shares: &[f64] = if roots { &[0.0, 0.1, 0.25, 0.5, 0.75] } else { &[0.0, 0.25, 0.5, 0.75] };
        let mut numbers: Vec<(f64, String)> = shares.iter().map(|&f| (place(f), brief(cap * f))).collect();
        numbers.push((1.0, format!("≥ {}", brief(cap))));
        colour_bar(&mut s, [1072.0, 160.0, 20.0, 300.0], &numbers, &["attention", "weight"]);
    }
    s
}

/// Names of all rows and of some columns.
fn names(s: &mut Scene, h: &Heat, [x, y, w, height]: [f32; 4]) {
    let step = height / h.genes.index.len() as f32;
    for (r, &gene) in h.genes.index.iter().enumerate() {
        let name = h.gene_names.get(gene as usize).map_or("", String::as_str);
        let name = super::fitted(name, 13.0, Weight::Regular, x - 14.0);
        s.text(x - 8.0, y + step * (r as f32 + 0.5) + 4.5, name, 13.0, Ink::Text, Anchor::End);
    }
    let step = w / h.peaks.index.len() as f32;
    let mut free = f32::NEG_INFINITY;
    for (c, &peak) in h.peaks.index.iter().enumerate() {
        let Some(name) = h.peak_names.get(peak as usize) else { continue };
        let (at, half) = (x + step * (c as f32 + 0.5), super::text_width(name, 13.0, Weight::Regular) / 2.0);
        if at - half > free {
            s.line((at, y + height), (at, y + height + 5.0), Pen::new(Ink::Text, 1.0));
            s.text(at, y + height + 19.0, name.as_str(), 13.0, Ink::Text, Anchor::Middle);
            free = at + half + 12.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::genome::Place;

    #[test]
    fn bins_hold_everything_and_no_two_chromosomes() {
        let chroms = ["chr1".to_string(), "chr2".into()];
        let places: Vec<Place> = (0..25).map(|i| Place { chrom: u32::from(i >= 7), base: i }).collect();
        let order = Order::new(&chroms, &places, 0..25);
        let bins = Bins::new(&order, 8);
        assert_eq!((bins.size, bins.count), (4, 7));
        assert_eq!(bins.chroms, [("chr1".to_string(), 0, 2), ("chr2".into(), 2, 7)]);
        assert_eq!([0, 3, 4, 6, 7, 24].map(|i| bins.of[&i]), [0, 0, 1, 1, 2, 6]);
    }

    #[test]
    fn sums_are_coloured() {
        let chroms = ["chr1".to_string()];
        let places: Vec<Place> = (0..2).map(|base| Place { chrom: 0, base }).collect();
        let order = Order::new(&chroms, &places, 0..2);
        let pairs = vec![(0, 1, 0.5), (0, 1, 0.5), (1, 0, 0.01), (9, 0, 5.0)];
        let s = heat_map(&Heat {
            genes: order.clone(),
            peaks: order,
            pairs,
            title: "c".into(),
            gene_names: vec![],
            peak_names: vec![],
        });
        let image = s.items.iter().find_map(|i| match i {
            Item::Image(_, 2, colours) => Some(colours.clone()),
            _ => None,
        });
        let image = image.unwrap();
        assert_eq!(image[1], shade(1.0));
        assert_eq!((image[0], image[3]), (Ink::Paper.rgb(), Ink::Paper.rgb()));
        assert!(image[2] != Ink::Paper.rgb() && image[2] != image[1]);
    }
}
