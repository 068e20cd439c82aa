//! The pinned PyPI packages of `tests/python`, installed into a virtual environment under `target/peers`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::process::run;
use crate::workspace::{root, target};

/// An installed `tests/python`.
#[derive(Debug)]
pub(crate) struct Python {
    programs: PathBuf,
}

impl Python {
    /// Installs what `requirements.txt` names, unless that has been done.
    ///
    /// # Errors
    /// When python3 is missing or pip fails.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let requirements = root().join("tests").join("python").join("requirements.txt");
        let folder = target().join("peers").join("python");
        let wanted = std::fs::read(&requirements)?;
        let installed = folder.join("installed-requirements.txt");
        if std::fs::read(&installed).ok().as_deref() != Some(&wanted) {
            println!("installing PyPI packages into {}", folder.display());
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
                .context("needs python3")?;
            let mut pip = Command::new(folder.join("bin").join("pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
            run(pip.arg(&requirements)).context("needs the PyPI registry")?;
            std::fs::write(&installed, &wanted)?;
        }
        Ok(Self { programs: folder.join("bin") })
    }

    /// The path of an installed program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Runs an installed program, or `python` itself.
    pub(crate) fn command(&self, name: &str) -> Command {
        Command::new(self.program(name))
    }
}
