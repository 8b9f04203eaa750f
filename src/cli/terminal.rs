//! What the terminal can show: its width, and whether colours are wanted.

use std::io::IsTerminal;

/// Columns of standard output; 100 where it is no terminal.
pub(crate) fn width() -> usize {
    columns(std::io::stdout())
}

/// Columns of standard error; 100 where it is no terminal.
pub(crate) fn width_of_stderr() -> usize {
    columns(std::io::stderr())
}

fn columns(stream: impl std::os::fd::AsFd) -> usize {
    let size = rustix::termios::tcgetwinsize(stream).ok().map(|s| usize::from(s.ws_col)).filter(|c| *c > 0);
    let asked = || std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 0);
    size.or_else(asked).unwrap_or(100)
}

/// Are colours wanted? `NO_COLOR` says no, `CLICOLOR_FORCE` yes; else it is as the stream is a terminal.
fn wanted(var: impl Fn(&str) -> Option<String>, terminal: bool) -> bool {
    let set = |name: &str| var(name).is_some_and(|v| !v.is_empty());
    if set("NO_COLOR") {
        return false;
    }
    if var("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") {
        return true;
    }
    terminal && var("CLICOLOR").as_deref() != Some("0") && var("TERM").as_deref() != Some("dumb")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// May standard output be coloured?
pub(crate) fn colour_of_stdout() -> bool {
    wanted(variable, std::io::stdout().is_terminal())
}

/// May standard error be coloured?
pub(crate) fn colour_of_stderr() -> bool {
    wanted(variable, std::io::stderr().is_terminal())
}

/// The first word of a line in its colour: `error:` red, `warning:` yellow, `next:` green.
pub(crate) fn coloured(line: &str) -> String {
    for (word, code) in [("error:", "1;31"), ("warning:", "1;33"), ("next:", "1;32")] {
        if let Some(rest) = line.strip_prefix(word) {
            return format!("\x1b[{code}m{word}\x1b[0m{rest}");
        }
    }
    line.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_as_the_environment_says() {
        let with = |set: &[(&str, &str)], terminal| {
            wanted(|name| set.iter().find(|s| s.0 == name).map(|s| s.1.to_string()), terminal)
        };
        assert!(with(&[], true) && !with(&[], false));
        assert!(!with(&[("NO_COLOR", "1")], true) && with(&[("NO_COLOR", "")], true));
        assert!(with(&[("CLICOLOR_FORCE", "1")], false) && !with(&[("CLICOLOR_FORCE", "0")], false));
        assert!(!with(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true));
        assert!(!with(&[("TERM", "dumb")], true) && !with(&[("CLICOLOR", "0")], true));
    }

    #[test]
    fn first_words_are_coloured() {
        assert_eq!(coloured("error: x"), "\x1b[1;31merror:\x1b[0m x");
        assert_eq!(coloured("an error: x"), "an error: x");
    }
}
