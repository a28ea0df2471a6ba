//! The C half and the Rust half say the same, the header is clean C99 and C++11, and the wrapper
//! refuses what a model must not be called with. Needs gcc, g++ and size (binutils).

use lmc_runtime::{Arena, Error, Model, abi};
use std::ffi::c_void;
use std::mem::{MaybeUninit, offset_of};
use std::path::{Path, PathBuf};
use std::process::Command;

fn stub(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn out(file: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(file)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// gcc or g++ with every warning an error.
fn compiler(name: &str, std: &str) -> Command {
    let mut command = Command::new(name);
    command.args([std, "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-I"]).arg(stub("include"));
    command
}

#[test]
fn header_has_the_codes_and_their_texts() {
    let defined: Vec<(i32, String, String)> = lmc_runtime::C_HEADER
        .lines()
        .filter_map(|line| {
            let (define, comment) = line.strip_prefix("#define LMC_ERR_")?.split_once("/*")?;
            let (name, number) = define.trim().split_once(' ')?;
            let text = comment.trim_end_matches("*/").trim();
            Some((number.parse().ok()?, format!("LMC_ERR_{name}"), text.to_owned()))
        })
        .collect();
    let codes: Vec<_> = abi::CODES.iter().map(|c| (c.0, c.1.to_owned(), c.2.to_owned())).collect();
    assert_eq!(defined, codes);
    for &(number, _, text) in abi::CODES {
        let error = Error::check(number).expect_err("a code other than 0");
        assert_eq!((error.code(), error.text()), (number, text));
        assert!(!matches!(error, Error::Other(_)), "code {number} has a variant");
    }
    assert_eq!(Error::check(0), Ok(()));
    assert_eq!(Error::check(99), Err(Error::Other(99)));
}

#[test]
fn header_has_the_features_and_what_they_are() {
    let defined: Vec<(u32, String, String)> = lmc_runtime::C_HEADER
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("#define LMC_FEATURE_")?.split_once(" (1u << ")?;
            let (bit, comment) = rest.split_once(')')?;
            let text = comment.trim().trim_start_matches("/*").trim_end_matches("*/").trim();
            Some((1 << bit.parse::<u32>().ok()?, format!("LMC_FEATURE_{name}"), text.to_owned()))
        })
        .collect();
    let features: Vec<_> = abi::FEATURES.iter().map(|f| (f.0, f.1.to_owned(), f.2.to_owned())).collect();
    assert_eq!(defined, features);
}

/// The standard library's view of the same processor.
#[cfg(target_arch = "x86_64")]
#[test]
fn features_are_those_of_this_processor() {
    let has = |bit| lmc_runtime::features() & bit != 0;
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    assert_eq!(
        has(abi::FEATURE_SSE41),
        is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt")
    );
    assert_eq!(has(abi::FEATURE_AVX), is_x86_feature_detected!("avx"));
    assert_eq!(has(abi::FEATURE_FMA), is_x86_feature_detected!("fma"));
    assert_eq!(has(abi::FEATURE_F16C), is_x86_feature_detected!("f16c"));
    assert_eq!(has(abi::FEATURE_AVX2), is_x86_feature_detected!("avx2"));
    assert_eq!(has(abi::FEATURE_AVX512), avx512);
    assert_eq!(has(abi::FEATURE_AVX_VNNI), is_x86_feature_detected!("avxvnni"));
    assert_eq!(has(abi::FEATURE_AVX512_VNNI), avx512 && is_x86_feature_detected!("avx512vnni"));
    assert_eq!(has(abi::FEATURE_AVX512_VBMI), avx512 && is_x86_feature_detected!("avx512vbmi"));
    assert_eq!(has(abi::FEATURE_AVX512_FP16), avx512 && is_x86_feature_detected!("avx512fp16"));
}

/// A C program that prints what Rust must agree with: texts, sizes and offsets.
const AGREE: &str = r#"
#include "lmc.h"
#include <stdio.h>
#define AT(field) printf("%zu\n", offsetof(lmc_model, field))
int main(void) {
    for (int code = 0; code < 20; code++) printf("%s\n", lmc_error_text(code));
    printf("%d\n%zu\n%zu\n%zu\n", LMC_ABI_VERSION, sizeof(lmc_model), sizeof(lmc_tensor), sizeof(lmc_symbol));
    AT(abi_version); AT(input_count); AT(output_count); AT(symbol_count); AT(arena_align);
    AT(features); AT(arena_bytes); AT(stack_bytes); AT(name); AT(inputs); AT(outputs); AT(symbols); AT(run);
    for (uint32_t dtype = 0; dtype < 30; dtype++) printf("%zu\n", lmc_dtype_size(dtype));
    printf("%u\n", (unsigned)lmc_features());
    return 0;
}
"#;

#[test]
fn c_and_rust_agree() {
    let (source, program) = (out("agree.c"), out("agree"));
    std::fs::write(&source, AGREE).expect("written");
    run(compiler("gcc", "-std=c99").arg(&source).arg(stub("src/lmc.c")).arg("-o").arg(&program));
    let text = |code| match Error::check(code) {
        Ok(()) => "success".to_owned(),
        Err(error) => error.text().to_owned(),
    };
    let mut expected: Vec<String> = (0..20).map(text).collect();
    let numbers = [
        abi::VERSION as usize,
        size_of::<abi::Model>(),
        size_of::<abi::Tensor>(),
        size_of::<abi::Symbol>(),
        offset_of!(abi::Model, abi_version),
        offset_of!(abi::Model, input_count),
        offset_of!(abi::Model, output_count),
        offset_of!(abi::Model, symbol_count),
        offset_of!(abi::Model, arena_align),
        offset_of!(abi::Model, features),
        offset_of!(abi::Model, arena_bytes),
        offset_of!(abi::Model, stack_bytes),
        offset_of!(abi::Model, name),
        offset_of!(abi::Model, inputs),
        offset_of!(abi::Model, outputs),
        offset_of!(abi::Model, symbols),
        offset_of!(abi::Model, run),
    ];
    expected.extend(numbers.map(|n| n.to_string()));
    expected.extend((0..30).map(|d| lmc_runtime::DType(d).size().to_string()));
    expected.push(lmc_runtime::features().to_string());
    assert_eq!(run(&mut Command::new(program)).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn header_is_clean_cpp() {
    let source = out("clean.cpp");
    std::fs::write(&source, "#include \"lmc.h\"\nint main() { return LMC_OK; }\n").expect("written");
    run(compiler("g++", "-std=c++11").arg(&source).arg("-o").arg(out("clean")));
}

/// Prints the sizes: run with `--nocapture` to see them. The C half must stay under 2 KB of code.
#[test]
fn stub_is_small() {
    let object = out("lmc.o");
    run(compiler("gcc", "-std=c99")
        .args(["-Os", "-ffreestanding", "-c"])
        .arg(stub("src/lmc.c"))
        .arg("-o")
        .arg(&object));
    assert_eq!(run(Command::new("nm").arg("-u").arg(&object)), "");
    let library = out("liblmc_runtime.rlib");
    run(Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args(["--edition=2024", "--crate-name=lmc_runtime", "--crate-type=rlib", "-Copt-level=s", "-o"])
        .arg(&library)
        .arg(stub("src/lib.rs")));
    for (what, file) in [("lmc.c", &object), ("lmc-runtime", &library)] {
        let table = run(Command::new("size").arg(file));
        let code: usize =
            table.lines().skip(1).filter_map(|l| l.split_whitespace().next()?.parse::<usize>().ok()).sum();
        println!("runtime stub, {what}: {code} bytes of code and constants");
        assert!(code > 0 && code < 2048, "{what}: {code} bytes");
    }
}

/// A model by hand: adds 1 to four bytes.
unsafe extern "C" fn plus_one(
    inputs: *const *const c_void,
    outputs: *const *mut c_void,
    _: *mut i64,
    _: *mut c_void,
) -> i32 {
    for i in 0..4 {
        // SAFETY: one input and one output of four bytes.
        unsafe { (*outputs).cast::<u8>().add(i).write((*inputs).cast::<u8>().add(i).read() + 1) };
    }
    0
}

#[test]
fn wrapper_checks_and_runs() {
    let dims = [2i64, 2];
    let tensor = |name: &'static std::ffi::CStr| abi::Tensor {
        name: name.as_ptr(),
        dtype: 2,
        rank: 2,
        dims: dims.as_ptr(),
        bytes: 4,
    };
    let (inputs, outputs) = ([tensor(c"x")], [tensor(c"y")]);
    let mut raw = abi::Model {
        abi_version: abi::VERSION,
        input_count: 1,
        output_count: 1,
        symbol_count: 0,
        arena_align: 64,
        features: 0,
        arena_bytes: 100,
        stack_bytes: 0,
        name: c"plus".as_ptr(),
        inputs: inputs.as_ptr(),
        outputs: outputs.as_ptr(),
        symbols: std::ptr::null(),
        run: plus_one,
    };
    // SAFETY: a valid model, above.
    let model = unsafe { Model::from_raw(&raw) }.expect("this version");
    assert_eq!((model.name(), model.symbols().len()), ("plus", 0));
    assert_eq!(model.inputs().map(|t| (t.name(), t.dims())).collect::<Vec<_>>(), [("x", &[2i64, 2][..])]);
    let mut arena = Arena::<100>::new();
    let mut y = [0u8; 4];
    assert_eq!(model.run([&[1, 2, 3, 4]], [&mut y], &mut [], arena.memory()), Ok(()));
    assert_eq!(y, [2, 3, 4, 5]);
    assert_eq!(model.run([&[1, 2, 3]], [&mut y], &mut [], arena.memory()), Err(Error::Tensor));
    assert_eq!(model.run([], [&mut y], &mut [], arena.memory()), Err(Error::Tensor));
    assert_eq!(model.run([&[1; 4]], [&mut y], &mut [0], arena.memory()), Err(Error::Tensor));
    let mut small = [MaybeUninit::uninit(); 10];
    assert_eq!(model.run([&[1; 4]], [&mut y], &mut [], &mut small), Err(Error::Arena));
    assert_eq!(model.run([&[1; 4]], [&mut y], &mut [], &mut arena.memory()[1..]), Err(Error::Arena));
    assert_eq!(model.check_processor(), Ok(()));
    raw.features = 1 << 31;
    // SAFETY: as above.
    let strange = unsafe { Model::from_raw(&raw) }.expect("this version");
    assert_eq!(strange.check_processor(), Err(Error::Cpu));
    raw.abi_version += 1;
    // SAFETY: as above.
    assert_eq!(unsafe { Model::from_raw(&raw) }.err(), Some(Error::Version));
}
