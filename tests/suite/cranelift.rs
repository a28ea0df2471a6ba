//! The Cranelift encoder against the interpreter, on every level of both architectures.

use crate::machine::{Case, check};
use lmc::codegen::cranelift::encode;
use lmc::target::{Target, resolve};
use lmc::tile::{Kernel, Param, parse};

/// The levels of x86_64 that this machine can execute.
fn host_targets() -> Vec<Target> {
    let native = resolve("x86_64", "native").expect("a host");
    let levels = ["generic", "x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4,vector=128"];
    let all = levels.into_iter().map(|cpu| resolve("x86_64", cpu).expect("a known processor"));
    all.filter(|t| t.features.iter().all(|f| native.has(*f))).collect()
}

/// Levels of aarch64, each of which the emulator runs on a processor that has no more.
fn foreign_targets() -> Vec<Target> {
    ["cortex-a53", "neoverse-n1", "neoverse-n2"].map(|cpu| resolve("aarch64", cpu).expect("known")).into()
}

/// Runs kernels everywhere. Kernels that fuse are left out where the target cannot.
fn everywhere(name: &str, kernels: &[Kernel], fill: impl Fn(usize, &Param) -> Vec<u8>) {
    for target in host_targets().into_iter().chain(foreign_targets()) {
        let fits = kernels.iter().filter(|k| target.fma || !k.fused);
        let cases: Vec<Case> = fits.map(|k| Case::new(k.clone(), &fill)).collect();
        check(name, &cases, &target, &|kernel| encode(kernel, &target));
    }
}

/// Small integers of both signs, exact in every type.
fn small(number: usize, param: &Param) -> Vec<u8> {
    let element = |i: usize| {
        let value = ((i * 7 + number * 3) % 13) as f64 - 6.0;
        let value = if param.dtype.is_float() { value * 0.5 } else { value };
        lmc::scalar::Scalar::from_f64(param.dtype, value).bits.to_le_bytes()
    };
    (0..param.elems).flat_map(|i| element(i)[..param.dtype.size()].to_vec()).collect()
}

/// The kernels of the interpreter's goldens, but those that end with an error code.
#[test]
fn golden_kernels() {
    let folder = crate::support::repository().join("tests/golden/tile_run");
    let mut kernels = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a text");
        let (kernel, result) = text.split_once("----").expect("a golden");
        if result.contains("returns 0") {
            kernels.push(parse(kernel).expect("a kernel"));
        }
    }
    assert!(kernels.len() >= 3);
    everywhere("cranelift_golden", &kernels, small);
}
