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

/// A number to four decimals; a dash where it is undefined.
pub fn number(x: Option<f64>) -> String {
    x.filter(|x| !x.is_nan()).map_or("–".into(), |x| format!("{x:.4}"))
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
        assert_eq!(crate::table::number(Some(0.12345)), "0.1235");
    }
}
