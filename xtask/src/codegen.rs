//! `cargo xtask codegen`: the generated files of the tree, and the documents of any configuration.
//!
//! The product's binary writes them, through a command that its help does not show; here they are compared with the
//! tree, or copied into it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::flags::{Command, Flag, Given};
use crate::process::run;
use crate::workspace::{binary, root, scratch};

pub(crate) const COMMAND: Command = Command {
    name: "codegen",
    summary: "Writes the generated files of the tree, or the OpenAPI and GraphQL documents of a configuration.",
    operands: "",
    flags: &[
        Flag {
            name: "--check",
            value: None,
            help: "Change nothing; fail when a file is not as it would be written.",
        },
        Flag { name: "--config", value: Some("FILE"), help: "Write the documents of these servers instead." },
        Flag { name: "--out", value: Some("DIR"), help: "With --config: where to. Made when missing." },
    ],
    forwards: false,
    run: codegen,
};

fn codegen(given: &Given) -> anyhow::Result<()> {
    match (given.value("--config"), given.value("--out")) {
        (Some(config), Some(out)) => documents(Path::new(config), Path::new(out)),
        (Some(_), None) => bail!("--config needs --out DIR"),
        (None, Some(_)) => {
            bail!("--out needs --config FILE; without one the files of the tree are written in place")
        }
        (None, None) if given.has("--check") => check(),
        (None, None) => write(),
    }
}

/// Fails when a generated file of the tree is not as it would be written now.
///
/// # Errors
/// Naming every such file and the command that mends it.
pub(crate) fn check() -> anyhow::Result<()> {
    let stale: Vec<_> = generated()?
        .into_iter()
        .filter(|file| std::fs::read(root().join(&file.path)).ok().as_deref() != Some(&file.content))
        .map(|file| file.path.display().to_string())
        .collect();
    if !stale.is_empty() {
        bail!("not up to date: {}; run `cargo xtask codegen`", stale.join(", "));
    }
    Ok(())
}

/// A generated file: its path within the tree, and its bytes.
struct Generated {
    path: PathBuf,
    content: Vec<u8>,
}

fn write() -> anyhow::Result<()> {
    for file in generated()? {
        let path = root().join(&file.path);
        if std::fs::read(&path).ok().as_deref() == Some(&file.content) {
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, &file.content).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", file.path.display());
    }
    Ok(())
}

/// Every generated file, as the product writes it now.
fn generated() -> anyhow::Result<Vec<Generated>> {
    let folder = scratch("codegen")?;
    run(std::process::Command::new(binary()?).arg("codegen").arg("--out").arg(&folder))?;
    let mut files = Vec::new();
    collect(&folder, &folder, &mut files)?;
    if files.is_empty() {
        bail!("the product's `codegen` wrote nothing");
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(base: &Path, folder: &Path, files: &mut Vec<Generated>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(base, &path, files)?;
        } else {
            let content = std::fs::read(&path)?;
            files.push(Generated { path: path.strip_prefix(base)?.to_owned(), content });
        }
    }
    Ok(())
}

fn documents(config: &Path, out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    run(std::process::Command::new(binary()?)
        .arg("codegen")
        .arg("--config")
        .arg(config)
        .arg("--out")
        .arg(out))
}
