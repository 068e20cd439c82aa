//! `cargo xtask dist`: the product as one ships it.
//!
//! A call runs through much code once and through little of it often, so what it costs is above all how many lines of the
//! instruction cache it touches. A profile of the product under its own benchmark tells the compiler which code that is;
//! the rest is laid aside, and made small.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::bench;
use crate::flags::{Command, Given};
use crate::process::{output, run};
use crate::workspace::{BINARY, cargo, scratch, target};

pub(crate) const COMMAND: Command = Command {
    name: "dist",
    summary: "Builds the product as one ships it, optimized by a profile of its own benchmark, to target/xtask/dist. Takes about \
              half an hour on two cores; needs Linux and `rustup component add llvm-tools`.",
    operands: "",
    flags: &[],
    forwards: false,
    run: dist,
};

/// What the product is watched at: the faces that carry single calls, both eras, every wire, both kinds of runtime.
const TRAINING: &[&[&str]] = &[
    &["--scenario", "A,A1,B,C,S,E,EB,EC,Q,F,X1,X2", "--seconds", "2", "--rounds", "1"],
    &["--scenario", "A,E", "--loaded", "--seconds", "2", "--rounds", "1"],
    &["--scenario", "A,A1,B,C,S,E", "--cores", "2", "--seconds", "2", "--rounds", "1"],
    &["--matrix", "--seconds", "1", "--rounds", "1"],
];

fn dist(_: &Given) -> anyhow::Result<()> {
    let toolchain = Toolchain::find()?;
    // Not `target/dist`, which is Cargo's own for the profile of that name.
    let folder = target().join("xtask").join("dist");
    let profiles = scratch("dist/profiles")?;

    println!("dist: the benchmark");
    // As `cargo xtask bench` builds it, so that whoever measures what comes of this builds nothing twice.
    bench::build()?;
    println!("dist: the product, watching itself");
    let watched = toolchain.build(&folder, &[format!("-Cprofile-generate={}", profiles.display())])?;
    for arguments in TRAINING {
        println!("dist: training, {}", arguments.join(" "));
        let bench = target().join("release").join("mpe-bench");
        run(std::process::Command::new(bench).args(["gateway", "--binary"]).arg(&watched).args(*arguments))?;
    }
    let profile = folder.join("product.profdata");
    toolchain.merge(&profiles, &profile)?;
    let order = folder.join("product.order");
    std::fs::write(&order, toolchain.order(&profile)?)
        .with_context(|| format!("cannot write {}", order.display()))?;

    println!("dist: the product");
    let linker = toolchain.tools.join("gcc-ld");
    let built = toolchain.build(
        &folder,
        &[
            format!("-Cprofile-use={}", profile.display()),
            // Only this linker takes an order.
            format!("-Clink-arg=-B{}", linker.display()),
            "-Clink-arg=-fuse-ld=lld".to_owned(),
            format!("-Clink-arg=-Wl,--symbol-ordering-file={}", order.display()),
            // Many were inlined and are gone.
            "-Clink-arg=-Wl,--no-warn-symbol-ordering".to_owned(),
        ],
    )?;
    let product = folder.join(BINARY);
    std::fs::copy(&built, &product).with_context(|| format!("cannot copy {}", built.display()))?;
    println!("dist: {}", product.display());
    Ok(())
}

/// What Rust was installed with.
struct Toolchain {
    /// The target triple it builds for by default.
    host: String,
    /// The folder of LLVM's tools.
    tools: PathBuf,
}

impl Toolchain {
    /// # Errors
    /// When it lacks LLVM's tools; the message says what to do.
    fn find() -> anyhow::Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let ask = |arguments: &[&str]| output(std::process::Command::new(&rustc).args(arguments));
        let version = ask(&["-vV"])?;
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let sysroot = ask(&["--print", "sysroot"])?;
        let tools = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
        let toolchain = Self { host: host.to_owned(), tools };
        let profdata = toolchain.profdata();
        if !profdata.exists() {
            bail!("there is no {}: run `rustup component add llvm-tools`", profdata.display());
        }
        Ok(toolchain)
    }

    fn profdata(&self) -> PathBuf {
        self.tools.join("llvm-profdata")
    }

    /// Builds the product with `flags` and returns its path.
    fn build(&self, folder: &Path, flags: &[String]) -> anyhow::Result<PathBuf> {
        let build = folder.join("build");
        // With a target named, the flags do not concern what only runs during the build. The profile is the same for both
        // builds: Cargo mixes it into the names of functions, by which a profile knows them.
        run(cargo()
            // Not `RUSTFLAGS`, which a blank in a path would break.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .args(["build", "--profile", "dist", "--package", BINARY, "--bin", BINARY])
            .args(["--target", &self.host, "--target-dir"])
            .arg(&build))?;
        Ok(build.join(&self.host).join("dist").join(BINARY))
    }

    /// One profile of all that were written.
    fn merge(&self, profiles: &Path, merged: &Path) -> anyhow::Result<()> {
        let files = std::fs::read_dir(profiles)?
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        if files.is_empty() {
            bail!("the product wrote no profile to {}", profiles.display());
        }
        run(std::process::Command::new(self.profdata()).args(["merge", "-o"]).arg(merged).args(files))
    }

    /// The functions that ran, one in a line, in order of how often.
    ///
    /// The compiler lays what runs seldom among what never does, so that each function of a start would bring sixteen pages
    /// into memory for the few hundred bytes of its own.
    fn order(&self, profile: &Path) -> anyhow::Result<String> {
        let every = format!("--value-cutoff={}", u32::MAX);
        let listing = output(
            std::process::Command::new(self.profdata())
                .args(["show", "--list-below-cutoff", &every])
                .arg(profile),
        )?;
        let mut ran: Vec<_> = listing.lines().filter_map(function).filter(|(_, count)| *count > 0).collect();
        if ran.is_empty() {
            bail!("{} holds no function that ran", profile.display());
        }
        ran.sort_by_key(|(_, count)| Reverse(*count));
        Ok(ran.iter().flat_map(|(name, _)| [*name, "\n"]).collect())
    }
}

/// A function and how often its busiest part ran, from a line `[file;]name: (Max = 3 Sum = 5)` of a listing.
fn function(line: &str) -> Option<(&str, u64)> {
    let (name, counts) = line.trim().rsplit_once(": (Max = ")?;
    let (most, _) = counts.split_once(' ')?;
    let name = name.rsplit_once(';').map_or(name, |(_, name)| name);
    Some((name, most.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::function;

    #[test]
    fn a_listing_names_functions_without_their_files() {
        assert_eq!(function("  _RNvNt3std2rt: (Max = 3 Sum = 5)"), Some(("_RNvNt3std2rt", 3)));
        assert_eq!(function("  a.7c-cgu.0;_RNvC1b4main: (Max = 0 Sum = 0)"), Some(("_RNvC1b4main", 0)));
        assert_eq!(function("The list of functions with the maximum counter less than 4294967295:"), None);
        assert_eq!(function("Total functions: 10"), None);
    }
}
