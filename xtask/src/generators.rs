//! Client generators of other projects over our documents, and compilers over what they wrote.

use std::process::Command as Process;

use anyhow::Context as _;

use crate::openapi_check::Documents;
use crate::peers::Bench;
use crate::process::{output, run};
use crate::workspace::root;

/// openapi-typescript over both versions, and tsc over its output together with a program that calls the demo by it.
pub(crate) fn typescript(bench: &Bench, sets: &[Documents]) -> anyhow::Result<()> {
    let mut written = Vec::new();
    for set in sets {
        for version in ["3.1", "3.0"] {
            let types = set.file(&format!("client-{version}.ts"));
            let mut command = bench.node.command("node_modules/openapi-typescript/bin/cli.js");
            command.arg(set.file(&format!("openapi-{version}.json"))).arg("--output").arg(&types);
            output(&mut command).with_context(|| format!("{} {version}", set.name))?;
            written.push(types);
        }
    }
    let demo = sets.iter().find(|set| set.name == "demo").context("there is always a demo")?;
    let program = demo.file("call.ts");
    std::fs::copy(root().join("tests/node/call.ts"), &program)?;
    let mut tsc = bench.node.command("node_modules/typescript/bin/tsc");
    tsc.args(["--noEmit", "--strict", "--target", "es2022", "--module", "preserve"]);
    tsc.arg(program).args(written);
    // It looks for packages where the program lies.
    let packages = bench.node.package("");
    link(&packages, &bench.folder.join("node_modules"))?;
    run(&mut tsc)
}

/// datamodel-code-generator over 3.1, and Python over its output.
pub(crate) fn models(bench: &Bench, sets: &[Documents]) -> anyhow::Result<()> {
    let mut check = bench.python.command("python");
    check.args(["-W", "error", "-c", "import runpy, sys; [runpy.run_path(file) for file in sys.argv[1:]]"]);
    for set in sets {
        let models = set.file("models.py");
        let mut command = bench.python.command("datamodel-codegen");
        command.arg("--input").arg(set.file("openapi-3.1.json")).arg("--output").arg(&models);
        command.args(["--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel"]);
        command.args(["--target-python-version", "3.11", "--formatters", "builtin"]);
        run(&mut command).with_context(|| set.name.to_owned())?;
        check.arg(models);
    }
    run(&mut check)
}

/// What openapi-python-client cannot read. It refuses schemas that are `true` or `false`, constants that are objects, and names that are one in
/// Python, as the corpus has them; and two schemas of one title, as the server for time has them.
const BEYOND_PYTHON_CLIENT: [&str; 2] = ["corpus", "time"];

/// openapi-python-client over 3.1, warnings being errors, and Python over its output.
pub(crate) fn python_client(bench: &Bench, sets: &[Documents]) -> anyhow::Result<()> {
    let mut compile = bench.python.command("python");
    compile.args(["-W", "error", "-m", "compileall", "-q", "-f"]);
    for set in sets.iter().filter(|set| !BEYOND_PYTHON_CLIENT.contains(&set.name)) {
        let client = set.file("client");
        let mut command = bench.python.command("openapi-python-client");
        command.arg("generate").arg("--path").arg(set.file("openapi-3.1.json"));
        command.arg("--output-path").arg(&client).args([
            "--overwrite",
            "--meta",
            "none",
            "--fail-on-warning",
        ]);
        on_path(bench, &mut command)?;
        run(&mut command).with_context(|| set.name.to_owned())?;
        compile.arg(client);
    }
    run(&mut compile)
}

/// It runs the formatter that was installed with it.
fn on_path(bench: &Bench, command: &mut Process) -> anyhow::Result<()> {
    let programs = bench.python.program("");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)))?;
    command.env("PATH", path);
    Ok(())
}

#[cfg(unix)]
fn link(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    std::os::unix::fs::symlink(from, to).with_context(|| format!("cannot link {}", to.display()))
}

#[cfg(not(unix))]
fn link(_: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    anyhow::bail!("no way to link {} here", to.display())
}
