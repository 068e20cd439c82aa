//! What a reviewer would say every time.

use std::path::{Path, PathBuf};

/// Lines of a file that still holds one idea.
const LONGEST: usize = 700;

/// Folders that hold nothing of ours.
const FOREIGN: &[&str] = &[".git", "node_modules", "target", "out"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies one level below the root")
}

/// Every file of the tree with one of these endings, with its text.
fn files(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(root(), endings, &mut found);
    assert!(!found.is_empty(), "nothing ends in {endings:?}");
    found
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !FOREIGN.contains(&name) && !name.starts_with("target") {
                collect(&path, endings, found);
            }
        } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
        }
    }
}

/// Panics with every finding, one a line.
fn nothing_found(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// The places where `wrong` holds for a line of Rust outside of comments.
fn lines_where(wrong: impl Fn(&str) -> bool, why: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in files(&["rs"]) {
        for (number, line) in text.lines().enumerate() {
            let code = line.trim();
            if !code.starts_with("//") && wrong(code) {
                findings.push(format!("{}:{}: {why}: {code}", path.display(), number + 1));
            }
        }
    }
    findings
}

#[test]
fn no_file_is_too_long_to_hold_one_idea() {
    let findings: Vec<_> = files(&["rs", "mjs", "py"])
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{}: {lines} lines, more than {LONGEST}", path.display()))
        .collect();
    nothing_found(&findings);
}

#[test]
fn names_are_imported_one_by_one() {
    let glob = concat!("::", "*;");
    let wrong =
        |code: &str| (code.starts_with("use ") || code.starts_with("pub use ")) && code.ends_with(glob);
    nothing_found(&lines_where(wrong, "a glob import hides what a file leans on"));
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    let wrong = |code: &str| marks.iter().any(|mark| code.contains(mark));
    nothing_found(&lines_where(wrong, "not finished, or switched off"));
}

#[test]
fn every_crate_and_module_says_what_it_is() {
    let findings: Vec<_> = files(&["rs"])
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests.rs") && !path.to_string_lossy().contains("/tests/"))
        .filter(|(_, text)| !text.trim_start().starts_with("//"))
        .map(|(path, _)| format!("{}: begins without a word about itself", path.display()))
        .collect();
    nothing_found(&findings);
}

#[test]
fn relative_links_of_the_documents_lead_somewhere() {
    let mut findings = Vec::new();
    for (path, text) in files(&["md"]) {
        for target in links(&text) {
            let Some(file) = target.split('#').next().filter(|file| !file.is_empty()) else { continue };
            let folder = root().join(&path);
            let folder = folder.parent().expect("a file lies in a folder");
            if !folder.join(file).exists() {
                findings.push(format!("{}: leads nowhere: {target}", path.display()));
            }
        }
    }
    nothing_found(&findings);
}

/// The targets of `[text](target)` that are relative paths.
fn links(markdown: &str) -> Vec<&str> {
    markdown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

#[test]
fn every_chore_that_the_documents_name_exists() {
    let sources: String = files(&["rs"])
        .into_iter()
        .filter(|(path, _)| path.starts_with("xtask"))
        .map(|(_, text)| text)
        .collect();
    let mut findings = Vec::new();
    for (path, text) in files(&["md"]) {
        for rest in text.split("cargo xtask ").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if name.starts_with(|c: char| c.is_ascii_lowercase())
                && !sources.contains(&format!("name: \"{name}\""))
            {
                findings.push(format!("{}: no `cargo xtask {name}`", path.display()));
            }
        }
    }
    nothing_found(&findings);
}

#[test]
fn links_are_found_and_foreign_ones_are_not() {
    let text = "[a](docs/a.md) and [b](https://example.org/b) and [c](c.md#part \"title\") and [d](#here)";
    assert_eq!(links(text), ["docs/a.md", "c.md#part", "#here"]);
}
