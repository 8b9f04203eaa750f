//! What `inspect` found: for people and as JSON.

use crate::table::number;

/// Lines of `key  value` and the JSON of the same.
pub(super) struct Findings {
    pub table: String,
    pub json: serde_json::Map<String, serde_json::Value>,
}

impl Findings {
    pub fn new(kind: &str) -> Self {
        let mut r = Findings { table: String::new(), json: serde_json::Map::new() };
        r.add("kind", kind);
        r
    }

    pub fn add(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        let value = value.into();
        let shown = match &value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(n) if n.is_f64() => number(n.as_f64()),
            other => other.to_string(),
        };
        self.table += &format!("{key:<16} {shown}\n");
        self.json.insert(key.replace(' ', "_"), value);
    }

    /// A part with a report of its own.
    pub fn nest(&mut self, name: &str, part: Findings) {
        self.table += &format!("\n{name}\n");
        for line in part.table.lines() {
            self.table += &format!("  {line}\n");
        }
        self.json.insert(name.to_string(), serde_json::Value::Object(part.json));
    }
}
