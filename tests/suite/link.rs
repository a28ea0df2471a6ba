//! The object in the hands of an application: linked by C, C++ and Rust compilers in every way a
//! program may ask for, run on x86_64, aarch64 and bare metal, and looked into section by section.
//!
//! The programs are in `tests/apps`, what bare metal needs besides in `tests/baremetal`.

use crate::sizes::{bounded, decode};
use crate::support::onnx::{ints, model, node, with};
use crate::support::{self, aarch64_gcc, kws::Kws};
use lmc::build::{Build, Silent};
use lmc::import::{Bindings, Sum};
use lmc::target::resolve;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGETS: [&str; 2] = ["x86_64", "aarch64"];

/// The C compiler of a target and what starts its programs.
fn tools(target: &str) -> (&'static str, &'static [&'static str]) {
    match target {
        "aarch64" => (aarch64_gcc(), &["qemu-aarch64", "-cpu", "cortex-a53"]),
        _ => ("gcc", &[]),
    }
}

/// Links programs of `tests/apps` with the object and its data.
fn link(kws: &Kws, compiler: &str, sources: &[&str], options: &[&str], program: &Path) {
    let mut command = support::c_compiler(compiler);
    command.args(options).arg("-I").arg(&kws.folder).args(kws.data_defines());
    for source in sources {
        command.arg(support::repository().join("tests").join(source));
    }
    support::run(command.arg(&kws.object).arg("-o").arg(program));
}

fn start(runner: &[&str], program: &Path) -> String {
    let mut words = runner.iter().map(|w| (*w).into()).chain([program.as_os_str().to_owned()]);
    support::run(Command::new(words.next().expect("a program")).args(words))
}

#[test]
fn one_c_program_on_both_targets_linked_every_way() {
    for target in TARGETS {
        let kws = Kws::build(target, "link_c");
        let (gcc, runner) = tools(target);
        for (way, options) in
            [("static", ["-static"]), ("static-pie", ["-static-pie"]), ("no-pie", ["-no-pie"])]
        {
            let program = kws.folder.join(way);
            link(&kws, gcc, &["apps/app.c", "apps/data.S"], &options, &program);
            let runner = if target == "aarch64" && way == "no-pie" {
                [runner, &["-L", "/usr/aarch64-linux-gnu"]].concat()
            } else {
                runner.to_vec()
            };
            assert_eq!(start(&runner, &program), "the result is as expected\n", "{target}, {way}");
        }
    }
}

#[test]
fn header_serves_a_cpp_program() {
    let kws = Kws::build("x86_64", "link_cpp");
    let program = kws.folder.join("app_cpp");
    let data = kws.folder.join("data.o");
    let mut assemble = Command::new("gcc");
    assemble.args(kws.data_defines()).arg("-c").arg(support::repository().join("tests/apps/data.S"));
    support::run(assemble.arg("-o").arg(&data));
    let mut command = support::c_compiler("g++");
    command.args(["-static", "-I"]).arg(&kws.folder).args(["-x", "c++"]);
    command.arg(support::repository().join("tests/apps/app.c")).args(["-x", "none"]);
    support::run(command.arg(&data).arg(&kws.object).arg("-o").arg(&program));
    assert_eq!(start(&[], &program), "the result is as expected\n");
}

#[test]
fn two_threads_with_two_arenas() {
    for target in TARGETS {
        let kws = Kws::build(target, "link_threads");
        let (gcc, runner) = tools(target);
        let program = kws.folder.join("threads");
        link(&kws, gcc, &["apps/threads.c", "apps/data.S"], &["-static", "-pthread"], &program);
        assert_eq!(start(runner, &program), "0 wrong\n", "{target}");
    }
}

/// For each target, the better of the processors compiled for, and on which emulated one what is chosen.
const SEVERAL: [(&str, &str, &[(&str, &str)]); 2] = [
    ("x86_64", "x86-64-v3", &[("Nehalem", "kws"), ("Haswell", "kws_fast")]),
    ("aarch64", "neoverse-n1", &[("cortex-a53", "kws"), ("neoverse-n1", "kws_fast"), ("max", "kws_fast")]),
];

#[test]
fn one_program_for_several_processors() {
    let runtime = |file| support::repository().join("runtime-stub").join(file);
    for (target, better, runs) in SEVERAL {
        let (kws, fast) =
            (Kws::build(target, "link_several"), Kws::compile(target, better, "kws_fast", "link_fast"));
        let (include, stub) = (format!("-I{}", fast.folder.display()), runtime("src/lmc.c"));
        let options = [
            "-static",
            &include,
            &format!("-I{}", runtime("include").display()),
            &stub.to_string_lossy(),
            &fast.object.to_string_lossy(),
        ];
        let program = kws.folder.join("several");
        link(&kws, tools(target).0, &["apps/several.c", "apps/data.S"], &options, &program);
        let rust = kws.folder.join("several_rs");
        let mut command = rust_compiler(target, &kws.folder, &kws.object);
        command.arg(format!("-Clink-arg={}", fast.object.display()));
        command
            .env("KWS_BINDING", kws.folder.join("kws.rs"))
            .env("KWS_FAST_BINDING", fast.folder.join("kws_fast.rs"));
        support::run(command.arg("-o").arg(&rust).arg(support::repository().join("tests/apps/several.rs")));
        for (cpu, chosen) in runs {
            let emulator = [&format!("qemu-{target}"), "-cpu", cpu];
            for program in [&program, &rust] {
                assert_eq!(start(&emulator, program), format!("{chosen} runs here\n"), "{target}, {cpu}");
            }
        }
    }
}

#[test]
fn bare_metal_asks_the_processor_itself() {
    let target = "aarch64-unknown-none";
    let (kws, fast) = (
        Kws::build(target, "link_bare_several"),
        Kws::compile(target, "neoverse-n1", "kws_fast", "link_bare_fast"),
    );
    let stub = support::repository().join("runtime-stub");
    let more = [
        stub.join("src/lmc.c"),
        fast.object,
        PathBuf::from(format!("-I{}", stub.join("include").display())),
        PathBuf::from(format!("-I{}", fast.folder.display())),
    ];
    let program = link_bare(&kws, "apps/several.c", &more.each_ref().map(|p| p.as_path()));
    for (cpu, chosen) in SEVERAL[1].2 {
        assert_eq!(run_bare(&program, cpu), format!("{chosen} runs here\n"), "{cpu}");
    }
}

/// A Rust compiler for a program with an object and the runtime crate, which is compiled into the folder.
fn rust_compiler(target: &str, folder: &Path, object: &Path) -> Command {
    let (rustc, triple, linker) = match target {
        "aarch64" => (support::aarch64_rustc(), "aarch64-unknown-linux-gnu", aarch64_gcc()),
        _ => (support::rustc(), "", "cc"),
    };
    let runtime = support::runtime_crate(&rustc, triple, folder);
    let mut command = Command::new(&rustc);
    command.args(["--edition=2024", "-Copt-level=1", "-Ctarget-feature=+crt-static"]);
    if !triple.is_empty() {
        command.args(["--target", triple]);
    }
    command.arg(format!("-Clinker={linker}")).arg(format!("-Clink-arg={}", object.display()));
    command.arg("--extern").arg(format!("lmc_runtime={}", runtime.display()));
    command
}

#[test]
fn rust_program_on_both_targets() {
    for target in TARGETS {
        let kws = Kws::build(target, "link_rust");
        let program = kws.folder.join("app_rs");
        let mut command = rust_compiler(target, &kws.folder, &kws.object);
        command.env("KWS_BINDING", kws.folder.join("kws.rs"));
        command.env("KWS_INPUT", &kws.input).env("KWS_EXPECTED", &kws.expected);
        support::run(command.arg("-o").arg(&program).arg(support::repository().join("tests/apps/app.rs")));
        let printed = start(tools(target).1, &program);
        assert_eq!(printed, "kws: 1 input, the result is as expected\n", "{target}");
    }
}

/// A length that is a multiple of 4 and not too short for a window: header and binding say so, `run` refuses
/// others.
#[test]
fn sizes_are_what_header_and_binding_say() {
    let pool = with(node("MaxPool", &["x"], "y"), [ints("kernel_shape", &[6])]);
    let proto = model(vec![pool], &[1, 3, -1], &[1, 3, -2], &[]);
    let sum = Sum::parse("4*k").expect("a multiple");
    let bindings = Bindings { sums: [("length".to_string(), sum)].into(), ..bounded(&[("k", 5)]) };
    for target in TARGETS {
        let folder = support::scratch(&format!("link_sized_{target}"));
        let resolved = resolve(target, "generic").expect("known");
        let build = Build::new("m.onnx").bindings(bindings.clone());
        let built = build.build_model(&decode(&proto), resolved, "sized", &Silent).expect("it compiles");
        let object = built.write(&folder).expect("files").object;
        let (gcc, runner) = tools(target);
        let (apps, program) = (support::repository().join("tests/apps"), folder.join("sized"));
        let mut command = support::c_compiler(gcc);
        command.arg("-static").arg("-I").arg(&folder).arg(apps.join("sized.c")).arg(&object);
        support::run(command.arg("-o").arg(&program));
        assert_eq!(start(runner, &program), "8 to 20: 4 ran, 25 refused\n", "{target}");
        let mut command = rust_compiler(target, &folder, &object);
        command.env("SIZED_BINDING", folder.join("sized.rs"));
        support::run(command.arg("-o").arg(&program).arg(apps.join("sized.rs")));
        assert_eq!(start(runner, &program), "8 to 20: 4 ran, 21 refused\n", "{target}");
    }
}

/// Links a program with `tests/baremetal` and runs it on an emulated board without a system.
fn bare_metal(kws: &Kws, main: &str) -> String {
    run_bare(&link_bare(kws, main, &[]), "cortex-a53")
}

fn link_bare(kws: &Kws, main: &str, more: &[&Path]) -> PathBuf {
    let folder = support::repository().join("tests/baremetal");
    let program = kws.folder.join("bare.elf");
    let mut command = support::c_compiler(aarch64_gcc());
    command.args([
        "-ffreestanding",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-DBARE_METAL",
        "-Wl,--fatal-warnings",
        "-T",
    ]);
    command.arg(folder.join("virt.ld")).arg("-I").arg(&kws.folder).args(kws.data_defines());
    command.arg(folder.join("start.S")).arg(folder.join("system.c"));
    command.arg(support::repository().join("tests").join(main));
    command.arg(support::repository().join("tests/apps/data.S")).arg(&kws.object).args(more);
    support::run(command.arg("-o").arg(&program));
    program
}

fn run_bare(program: &Path, cpu: &str) -> String {
    let mut emulator = Command::new("qemu-system-aarch64");
    emulator.args(["-M", "virt", "-cpu", cpu, "-m", "64M", "-nic", "none", "-display", "none"]);
    emulator.args(["-serial", "none", "-monitor", "none", "-chardev", "stdio,id=out"]);
    support::run(
        emulator.args(["-semihosting-config", "enable=on,target=native,chardev=out", "-kernel"]).arg(program),
    )
}

#[test]
fn bare_metal_runs_the_same_program() {
    let kws = Kws::build("aarch64-unknown-none", "link_bare");
    assert_eq!(bare_metal(&kws, "apps/app.c"), "the result is as expected\n");
}

#[test]
fn stack_is_within_what_the_model_states() {
    let kws = Kws::build("aarch64-unknown-none", "link_stack");
    println!("{}", bare_metal(&kws, "baremetal/stack.c").trim());
}
