//! Running an object as a program of its own, natively and under emulation, with a model written
//! by hand (`tests/apps/hand.c`): results come back, and a model that breaks a promise is caught.

use crate::support;
use lmc::error::Kind;
use lmc::run::foreign::Foreign;
use std::path::Path;

fn object(target: &str, fault: u32, folder: &Path) -> std::path::PathBuf {
    let object = folder.join("hand.o");
    let mut gcc = support::c_compiler(if target == "aarch64" { support::aarch64_gcc() } else { "gcc" });
    gcc.args(["-Wno-cast-qual", "-ffreestanding", "-c"]).arg(format!("-DFAULT={fault}"));
    support::run(gcc.arg(support::repository().join("tests/apps/hand.c")).arg("-o").arg(&object));
    object
}

fn foreign(target: &str, fault: u32, folder: &Path) -> Foreign {
    let resolved = lmc::target::resolve(target, "generic").expect("a known target");
    Foreign::link(&object(target, fault, folder), "hand", &resolved, None, folder).expect("a program")
}

fn floats(values: [f32; 4]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn results_come_back_from_both_targets() {
    for target in ["x86_64", "aarch64"] {
        let folder = support::scratch(&format!("foreign_{target}"));
        let program = foreign(target, 0, &folder);
        let outcome = program.run(&[&floats([1.0, 2.0, 3.0, 4.0])], &[3, 0], 1, 5).expect("a run");
        assert_eq!(
            (outcome.status, outcome.symbols, outcome.nanoseconds.len()),
            (0, vec![3, 6], 5),
            "{target}"
        );
        assert_eq!(outcome.outputs[0][..12], floats([2.0, 3.0, 4.0, 0.0])[..12], "{target}");
        let refused = program.run(&[&floats([0.0; 4])], &[5, 0], 1, 1).expect("a run");
        assert_eq!((refused.status, refused.nanoseconds), (lmc::base::abi::ERR_SYMBOL, vec![]), "{target}");
        let short = program.run(&[&[0; 15]], &[1, 0], 1, 1).expect_err("an input of the wrong size");
        assert!(short.reason.contains("has the wrong size"), "{short}");
    }
}

#[test]
fn broken_promises_are_caught() {
    let texts =
        ["y: the model wrote past the end", "x: the model wrote to an input", "arena: the model wrote past"];
    for (fault, text) in (1..).zip(texts) {
        let folder = support::scratch(&format!("foreign_fault_{fault}"));
        let program = foreign("x86_64", fault, &folder);
        let error = program.run(&[&floats([0.0; 4])], &[4, 0], 1, 1).expect_err("a broken promise");
        assert!(error.reason.contains(text), "{error}");
    }
}

#[test]
fn what_cannot_run_says_why() {
    let folder = support::scratch("foreign_refused");
    let mac = lmc::target::resolve("aarch64-apple-darwin", "generic").expect("a known target");
    let error = Foreign::link(Path::new("x.o"), "x", &mac, None, &folder).err().expect("no way to run it");
    assert_eq!(error.kind, Kind::Target);
    let here = lmc::target::resolve("x86_64", "generic").expect("a known target");
    let error =
        Foreign::link(Path::new("missing.o"), "x", &here, Some("echo"), &folder).err().expect("no object");
    assert!(error.to_string().contains("missing.o"), "{error}");
}

/// A model that needs a feature which no processor has.
#[test]
fn processors_that_lack_something_are_refused() {
    for target in ["x86_64", "aarch64"] {
        let folder = support::scratch(&format!("foreign_lacks_{target}"));
        let program = foreign(target, 4, &folder);
        let error = program.run(&[&floats([0.0; 4])], &[4, 0], 1, 1).expect_err("it is not run");
        assert!(error.reason.contains("the processor lacks instructions"), "{error}");
        assert!(error.to_string().contains("--cpu"), "{error}");
    }
}
