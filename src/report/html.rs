//! Pieces of HTML, and numbers as the page's script reads them.

use std::fmt::Write;

use serde_json::Value;

use crate::picture::{base64, escaped, thousands};

pub(super) fn numbers<T: bytemuck::Pod>(values: &[T]) -> String {
    // The page reads little-endian, as does every machine this runs on.
    base64(bytemuck::cast_slice(values))
}

pub(super) fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// JSON that can stand inside a script element: no character of it can end that.
pub(super) fn script_json(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

pub(super) fn section(out: &mut String, id: &str, title: &str, body: &str) {
    let _ = writeln!(out, "<section id=\"{id}\"><h2>{}</h2>\n{body}</section>", escaped(title));
}

pub(super) fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escaped(text))
}

pub(super) fn facts(rows: &[(&str, String)]) -> String {
    let mut out = "<table class=\"facts\"><tbody>\n".to_string();
    for (name, value) in rows {
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value));
    }
    out + "</tbody></table>\n"
}

pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// "1 cell", "2,000 cells".
pub(super) fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// A share as whole percent, more finely where it is small.
pub(super) fn share(x: f64) -> String {
    let p = 100.0 * x;
    if p > 0.0 && p < 1.0 { format!("{p:.1}\u{a0}%") } else { format!("{p:.0}\u{a0}%") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_ends_the_script() {
        let text = script_json(&json!({ "a": "</script><!-- & \u{2028}" }));
        assert!(!text.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["a"], "</script><!-- & \u{2028}");
    }

    #[test]
    fn numbers_in_words() {
        assert_eq!([counted(1, "cell"), counted(1200, "link")], ["1 cell", "1,200 links"]);
        assert_eq!([0.0, 0.004, 0.237, 1.0].map(share), ["0\u{a0}%", "0.4\u{a0}%", "24\u{a0}%", "100\u{a0}%"]);
    }
}
