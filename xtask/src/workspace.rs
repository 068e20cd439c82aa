//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::process::run;

/// The name of the product's binary.
pub(crate) const BINARY: &str = "mcp-proxy-engine";

/// The root of the source tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the root")
}

/// The folder everything generated goes to: `CARGO_TARGET_DIR`, else `target` at the root.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> std::process::Command {
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the product's binary, debug profile, and returns its path.
///
/// # Errors
/// When it does not build.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    // Cargo unites features over whatever is selected. After a full `cargo test` the whole selection is already built
    // and the binary alone would be a second build of most dependencies; at a desk it is the other way round.
    let selection: &[&str] = match std::env::var_os("CI") {
        Some(_) => &["--workspace", "--all-targets"],
        None => &["--package", BINARY, "--bin", BINARY],
    };
    run(cargo().args(["build", "--quiet"]).args(selection))?;
    let path = target().join("debug").join(BINARY).with_extension(std::env::consts::EXE_EXTENSION);
    if !path.exists() {
        bail!("cargo built no {}", path.display());
    }
    Ok(path)
}

/// Builds an example, debug profile, and returns its path.
///
/// # Errors
/// When it does not build.
pub(crate) fn example(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    // As with the binary.
    if std::env::var_os("CI").is_some() {
        run(cargo().args(["build", "--quiet", "--workspace", "--all-targets"]))?;
    } else {
        run(cargo().args(["build", "--quiet", "--package", package, "--example", name]))?;
    }
    Ok(target().join("debug").join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION))
}

/// The product's binary: the one that `file` names, or the one that [`binary`] builds.
///
/// # Errors
/// When there is none of that name, or it does not build.
pub(crate) fn product(file: Option<&str>) -> anyhow::Result<PathBuf> {
    match file {
        Some(file) => Path::new(file).canonicalize().with_context(|| format!("no product at {file}")),
        None => binary(),
    }
}

/// Builds the reference server of the end-to-end tests and returns its path.
///
/// # Errors
/// When it does not build.
pub(crate) fn reference_server() -> anyhow::Result<PathBuf> {
    example("mpe-tests", "conformance-server")
}

/// An empty folder of that name under `target/xtask`.
///
/// # Errors
/// When it cannot be emptied or made.
pub(crate) fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let folder = target().join("xtask").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
