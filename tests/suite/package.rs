//! The header, the binding and the manifest of a model: whole texts as goldens, and each compiled
//! by the compilers it is made for.

use crate::golden::check_text;
use crate::support;
use lmc::base::{DType, TensorType};
use lmc::package::{self, Compiled, Strings};
use lmc::plan::{Interface, Program, Symbol};
use std::process::Command;

fn tensor(name: &str, dtype: DType, shape: &[usize]) -> Interface {
    Interface { name: name.to_owned(), ty: TensorType::new(dtype, shape), symbolic: Vec::new() }
}

fn program(name: &str, inputs: Vec<Interface>, outputs: Vec<Interface>, symbols: Vec<Symbol>) -> Program {
    Program {
        name: name.to_owned(),
        inputs,
        outputs,
        symbols,
        arena_bytes: 32256,
        arena_align: 64,
        arena_bound: 32000,
        constants: Vec::new(),
        kernels: Vec::new(),
        steps: Vec::new(),
        macs: 2656768,
    }
}

/// A model as it should be.
fn plain() -> Program {
    let x = tensor("input_1", DType::F32, &[1, 49, 10, 1]);
    program("kws", vec![x], vec![tensor("dense", DType::F32, &[1, 12])], Vec::new())
}

/// A model with names and shapes that make trouble.
fn odd() -> Program {
    let mut tokens = tensor("while", DType::I64, &[1, 128]);
    tokens.symbolic = vec![None, Some(0)];
    let inputs = vec![
        tokens,
        tensor("serving:0", DType::Bool, &[4]),
        tensor("serving_0", DType::F16, &[]),
        tensor("arena", DType::U8, &[2, 0]),
        tensor("*/ \"\n", DType::I4, &[3]),
    ];
    let mut found = tensor("1", DType::I64, &[2, 100]);
    found.symbolic = vec![None, Some(1)];
    let sequence = Symbol { least: 16, step: 8, ..Symbol::given("sequence length", 128) };
    let outputs = vec![found, tensor("None", DType::Bool, &[4])];
    program("odd_1", inputs, outputs, vec![sequence, Symbol::computed(100)])
}

#[test]
fn texts_are_the_goldens_and_compile() {
    let target = lmc::target::resolve("aarch64", "cortex-a53").expect("a known target");
    let folder = support::scratch("package");
    let runtime = support::runtime_crate(&support::rustc(), "", &folder);
    let said = ["cat", "c:\\\"?\n\u{e4}"].map(String::from).to_vec();
    let odd_strings = Strings { words: said, inputs: vec![true, false], outputs: vec![true, false] };
    for (program, strings) in [(plain(), Strings::default()), (odd(), odd_strings)] {
        let name = &program.name;
        let compiled = Compiled {
            program: &program,
            target: &target,
            code_bytes: 9000,
            constant_bytes: 90416,
            stack_bytes: 288,
            strings: &strings,
        };
        let header = package::header(&compiled);
        let binding = package::binding(&compiled);
        let manifest = serde_json::to_string_pretty(&package::manifest(&compiled)).expect("JSON");
        check_text(&format!("package/{name}.h"), &header);
        check_text(&format!("package/{name}.rs"), &binding);
        check_text(&format!("package/{name}.json"), &manifest);

        let include = support::write(&folder, &format!("{name}.h"), header);
        for (compiler, extension) in [("gcc", "c"), ("g++", "cpp")] {
            // Included beside lmc.h in both orders, as an application may.
            for (order, first, second) in [(1, "lmc.h", "model"), (2, "model", "lmc.h")] {
                let line = |what: &str| match what {
                    "model" => format!("#include \"{}\"\n", include.display()),
                    other => format!("#include \"{other}\"\n"),
                };
                let text = format!("{}{}int main(void) {{ return LMC_OK; }}\n", line(first), line(second));
                let source = support::write(&folder, &format!("{name}_{order}.{extension}"), text);
                let object = source.with_extension("o");
                support::run(support::c_compiler(compiler).arg("-c").arg(&source).arg("-o").arg(object));
            }
        }
        let source = support::write(&folder, &format!("{name}.rs"), format!("#![no_std]\n{binding}"));
        let extern_crate = format!("lmc_runtime={}", runtime.display());
        let mut rustc = Command::new(support::rustc());
        rustc.args(["--edition=2024", "--crate-type=rlib", "-Dwarnings", "--extern", &extern_crate]);
        support::run(rustc.arg("-o").arg(folder.join(format!("lib{name}.rlib"))).arg(source));
    }
}
