//! Aligned tables for people.

/// Lines of a table: the first column to the left, the others to the right, two spaces between. The first row is the
/// header and gets a rule below it.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[c] - cell.chars().count());
            match c {
                0 => line += &format!("{cell}{gap}"),
                _ => line += &format!("  {gap}{cell}"),
            }
        }
        out += line.trim_end();
        out.push('\n');
        if i == 0 {
            out += &"-".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1));
            out.push('\n');
        }
    }
    out
}

/// A number to three significant digits; a dash where it is undefined.
pub fn number(x: Option<f64>) -> String {
    let Some(x) = x.filter(|x| !x.is_nan()) else { return "–".into() };
    match x.abs() {
        a if a == 0.0 || a >= 100.0 || !a.is_finite() => format!("{x:.0}"),
        a if a < 1e-4 => format!("{x:.2e}"),
        a => format!("{x:.*}", (2.0 - a.log10().floor()).max(0.0) as usize),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let row = |c: &[&str]| c.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let t = crate::table::aligned(&[row(&["metric", "model"]), row(&["f1", "0.5"]), row(&["é", ""])]);
        assert_eq!(t, "metric  model\n-------------\nf1        0.5\né\n");
        assert_eq!(crate::table::number(None), "–");
        assert_eq!(crate::table::number(Some(f64::NAN)), "–");
        for (x, shown) in [
            (0.12345, "0.123"),
            (0.0123456, "0.0123"),
            (-0.98, "-0.980"),
            (0.9996, "1.000"),
            (12.345, "12.3"),
            (123.45, "123"),
            (12345.6, "12346"),
            (0.0, "0"),
            (0.0000123, "1.23e-5"),
        ] {
            assert_eq!(crate::table::number(Some(x)), shown);
        }
    }
}
