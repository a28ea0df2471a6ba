//! Tile kernels: text forms read and printed, verified, interpreted.

use crate::golden::check_folder;
use lmc::base::{DType, Tensor, TensorType};
use lmc::scalar::Scalar;
use lmc::tile::{Access, Kernel, Param, explain, interpret, parse, verify};
use std::fmt::Write;

/// The text of a kernel as printed, with what the verifier finds under the guilty lines.
fn read_and_verify(text: &str) -> String {
    let kernel = match parse(text) {
        Ok(kernel) => kernel,
        Err(error) => return format!("{error}\n"),
    };
    assert_eq!(parse(&kernel.to_string()).expect("printed text is read back"), kernel);
    let verdict = match verify(&kernel) {
        Ok(()) => "valid",
        Err(_) => "invalid",
    };
    format!("{}{verdict}\n", explain(&kernel))
}

#[test]
fn text_and_verifier() {
    check_folder("tile", read_and_verify);
}

/// Elements -3, -2, ... 4, -3, ...: signs and a zero, exact in every type; sizes, named `n`, are 3.
fn pattern(param: &Param) -> Vec<u8> {
    if param.name == "n" && param.access == Access::Read {
        return 3i64.to_le_bytes().repeat(param.elems);
    }
    let element = |i: usize| Scalar::from_f64(param.dtype, (i % 8) as f64 - 3.0).bits.to_le_bytes();
    (0..param.elems).flat_map(|i| element(i)[..param.dtype.size()].to_vec()).collect()
}

/// Runs a kernel on the pattern and prints what it writes.
fn run(text: &str) -> String {
    let kernel = parse(text).expect("a kernel");
    verify(&kernel).expect("a valid kernel");
    let mut buffers: Vec<Vec<u8>> = kernel.params.iter().map(pattern).collect();
    let code = interpret(&kernel, &mut buffers).expect("a kernel that runs");
    let mut answer = format!("returns {code}\n");
    for (param, buffer) in kernel.params.iter().zip(&buffers).filter(|(p, _)| p.access != Access::Read) {
        writeln!(answer, "{} = {}", param.name, elements(param, buffer)).expect("writing to a string");
    }
    answer
}

fn elements(param: &Param, buffer: &[u8]) -> String {
    let ty = TensorType::new(param.dtype, [param.elems]);
    let tensor = Tensor::from_bytes(ty, buffer).expect("a whole buffer");
    match param.dtype {
        DType::F32 => format!("{:?}", tensor.to_vec::<f32>().expect("floats")),
        DType::F64 => format!("{:?}", tensor.to_vec::<f64>().expect("floats")),
        _ if param.dtype.is_float() => format!("{buffer:02x?}"),
        _ => format!("{:?}", tensor.to_i64s().expect("integers")),
    }
}

#[test]
fn interpreter() {
    check_folder("tile_run", run);
}

/// What the verifier would reject, and a computed index past its limit, must end with an error.
#[test]
fn the_interpreter_checks_every_access() {
    let refused = |body: &str| {
        let text = format!("kernel k {{ read x: f32[8] write y: f32[8] vars i {body} }}");
        let kernel: Kernel = parse(&text).expect("a kernel");
        let mut buffers = vec![vec![0; 32], vec![0; 32]];
        interpret(&kernel, &mut buffers).expect_err("a refusal").to_string()
    };
    assert!(refused("%0: f32x4 = load x[5]").contains("5..9"));
    assert!(refused("for i in 0..4 { %0: f32x4 = load x[0] stride -1 }").contains("-3..1"));
    assert!(refused("%0: f32 = load y[0]").contains("not declared"));
    assert!(refused("%0: f32 = load x[0] store x[0] = %0").contains("not declared"));
    assert!(refused("%0: i64 = const 6 %1: f32 = load x[0; %0 <= 5]").contains("limit"));
    assert!(refused("%0: i32 = load x[0]").contains("cannot hold"));
}
