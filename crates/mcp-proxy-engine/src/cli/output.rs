//! Two streams, two purposes: results on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};

/// Writes a result and a line end.
///
/// # Errors
/// Whatever standard output says; a reader that has gone away among them.
pub(crate) fn result(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Tells people something. Nobody listening is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Tells people what went wrong, one `error:` a line.
pub(crate) fn error(text: &str) {
    for (n, line) in text.lines().enumerate() {
        if n == 0 || !line.starts_with(' ') { note(&format!("error: {line}")) } else { note(line) }
    }
}

/// Whether results are read by a person.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// JSON for whoever reads: indented for a person, one line for a program.
pub(crate) fn json(value: &serde_json::Value) -> String {
    if is_terminal() { format!("{value:#}") } else { value.to_string() }
}
