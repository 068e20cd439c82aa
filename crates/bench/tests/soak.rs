//! Short soaks, run as the command that runs the long ones.

use std::process::Command;

fn soak(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_mpe-bench")).arg("soak").args(arguments).output();
    let output = output.expect("the benchmark starts");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    assert_eq!(said.lines().count(), 11, "a head and ten samples: {said}");
}

#[test]
fn two_hundred_processes_leave_nothing_behind() {
    soak(&["--only", "processes", "--processes", "200"]);
}

#[test]
fn two_thousand_sessions_opened_anew_leave_nothing_behind() {
    soak(&["--only", "sessions", "--sessions", "2000"]);
}
