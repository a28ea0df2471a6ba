//! From `--target` and `--cpu` to a [`Target`].

use super::rows::{ROWS, Row};
use super::{Arch, Feature, Target, native};
use crate::error::{Error, Kind, Result};
use target_lexicon::{Architecture, BinaryFormat, Endianness, OperatingSystem, PointerWidth, Triple};

/// The target that the options name.
///
/// `target` is `native`, `x86_64`, `aarch64` (both Linux, ELF) or a triple. `cpu` is a name of the
/// table, `generic`, or `native` (the host's features, on its own architecture only), optionally
/// followed by `,vector=BITS` with 128, 256 or 512: the widest vectors to use, which keeps the
/// processor's other features (fused multiply-add at 128 bits, for instance). An unknown name is
/// an error of kind [`Kind::Target`] that lists the nearest known ones.
pub fn resolve(target: &str, cpu: &str) -> Result<Target> {
    let (triple, arch) = triple(target)?;
    let mut parts = cpu.split(',');
    let name = parts.next().unwrap_or_default();
    let mut made = processor(triple, arch, name)?;
    for part in parts {
        narrow(&mut made, part)?;
        made.cpu = cpu.to_string();
    }
    Ok(made)
}

/// The names `--cpu` takes on an architecture, but `native`.
pub fn cpu_names(arch: Arch) -> impl Iterator<Item = &'static str> {
    ROWS.iter().filter(move |r| r.arch == arch).map(|r| r.name)
}

fn triple(text: &str) -> Result<(Triple, Arch)> {
    let full = match text {
        "native" | "host" => return supported(Triple::host(), text),
        "x86_64" => "x86_64-unknown-linux-gnu",
        "aarch64" | "arm64" => "aarch64-unknown-linux-gnu",
        other => other,
    };
    let triple: Triple = full.parse().map_err(|e| {
        Error::new(Kind::Target, format!("unknown target `{text}` ({e})"))
            .at("--target")
            .advise("Give x86_64, aarch64, native, or a triple such as aarch64-apple-darwin")
    })?;
    supported(triple, text)
}

fn supported(mut triple: Triple, text: &str) -> Result<(Triple, Arch)> {
    let refuse = |why: String| {
        Err(Error::new(Kind::Target, why)
            .at("--target")
            .advise("lmc compiles for x86_64 and little-endian aarch64, as ELF, Mach-O or COFF"))
    };
    let arch = match triple.architecture {
        Architecture::X86_64 => Arch::X86_64,
        Architecture::Aarch64(_) if triple.endianness() == Ok(Endianness::Little) => Arch::Aarch64,
        other => return refuse(format!("architecture `{other}` of target `{text}` is not supported")),
    };
    if triple.pointer_width() != Ok(PointerWidth::U64) {
        return refuse(format!("the 32-bit pointers of target `{text}` are not supported"));
    }
    // Bare-metal triples name no format, and are ELF everywhere; UEFI takes what Windows does.
    match triple.binary_format {
        _ if triple.operating_system == OperatingSystem::Uefi => triple.binary_format = BinaryFormat::Coff,
        BinaryFormat::Unknown => triple.binary_format = BinaryFormat::Elf,
        _ => {}
    }
    match triple.binary_format {
        BinaryFormat::Elf | BinaryFormat::Macho | BinaryFormat::Coff => Ok((triple, arch)),
        other => refuse(format!("object format `{other:?}` of target `{text}` is not supported")),
    }
}

fn processor(triple: Triple, arch: Arch, name: &str) -> Result<Target> {
    if name == "native" {
        if native::arch() != Some(arch) {
            return Err(Error::new(
                Kind::Target,
                "`native` names this machine, which is of another architecture",
            )
            .at("--cpu")
            .advise("Name a processor of the target, or `generic`"));
        }
        let (l1, l2) = native::caches().unwrap_or((32 << 10, 256 << 10));
        return Ok(made(triple, arch, name, native::features(), l1, l2));
    }
    let found = ROWS.iter().find(|r| r.arch == arch && r.name == name);
    match found {
        Some(Row { features, l1, l2, .. }) => {
            Ok(made(triple, arch, name, features.to_vec(), l1 << 10, l2 << 10))
        }
        None => Err(unknown(arch, name)),
    }
}

fn made(triple: Triple, arch: Arch, cpu: &str, mut features: Vec<Feature>, l1: usize, l2: usize) -> Target {
    features.sort();
    let has = |f| features.contains(&f);
    let (vector_bytes, vector_regs) = match arch {
        Arch::Aarch64 => (16, 32),
        Arch::X86_64 if has(Feature::Avx512) => (64, 32),
        Arch::X86_64 if has(Feature::Avx2) => (32, 16),
        Arch::X86_64 => (16, 16),
    };
    let fma = arch == Arch::Aarch64 || has(Feature::Fma);
    Target { triple, arch, cpu: cpu.to_string(), features, vector_bytes, vector_regs, fma, l1, l2 }
}

/// Applies one `vector=BITS`.
fn narrow(target: &mut Target, part: &str) -> Result<()> {
    let bytes = match part {
        "vector=128" => 16,
        "vector=256" => 32,
        "vector=512" => 64,
        _ => {
            return Err(Error::new(Kind::Target, format!("unknown processor setting `{part}`"))
                .at("--cpu")
                .advise("The setting after the name is vector=128, vector=256 or vector=512"));
        }
    };
    if bytes > target.vector_bytes {
        let widest = 8 * target.vector_bytes;
        return Err(Error::new(
            Kind::Target,
            format!("`{}` has vectors of {widest} bits at most", target.cpu),
        )
        .at("--cpu")
        .advise(format!("Give vector={widest} or less")));
    }
    if bytes < 64 && target.arch == Arch::X86_64 {
        use Feature::{Avx512, Avx512Fp16, Avx512Twice, Avx512Vbmi, Avx512Vnni};
        let wide = [Avx512, Avx512Vnni, Avx512Vbmi, Avx512Fp16, Avx512Twice];
        target.features.retain(|f| !wide.contains(f));
        target.vector_regs = 16;
    }
    target.vector_bytes = bytes;
    Ok(())
}

fn unknown(arch: Arch, name: &str) -> Error {
    let (why, advice) = match ROWS.iter().find(|r| r.name == name) {
        Some(row) => {
            let [own, asked] = [row.arch, arch].map(|arch| format!("{arch:?}").to_lowercase());
            (format!("is an {own} processor, the target is {asked}"), format!("Give --target {own} with it"))
        }
        None => {
            let near = crate::base::nearest(name, cpu_names(arch).chain(["native"])).join(", ");
            let advice = format!(
                "Near names: {near}; `lmc cpus` lists all, `generic` runs on every processor of the architecture"
            );
            ("is not known".to_string(), advice)
        }
    };
    Error::new(Kind::Target, format!("processor `{name}` {why}")).at("--cpu").advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve() {
        let t = resolve("x86_64", "x86-64-v3").unwrap();
        assert_eq!((t.vector_bytes, t.vector_regs, t.fma, t.lanes()), (32, 16, true, 8));
        let t = resolve("aarch64", "cortex-a53").unwrap();
        assert_eq!((t.vector_bytes, t.vector_regs, t.fma, t.features.len()), (16, 32, true, 0));
        let t = resolve("x86_64", "znver4,vector=128").unwrap();
        assert_eq!((t.vector_bytes, t.vector_regs, t.fma, t.has(Feature::Avx512)), (16, 16, true, false));
        let t = resolve("aarch64-none", "generic").unwrap();
        assert_eq!(t.triple.binary_format, BinaryFormat::Elf);
        for (triple, format) in [
            ("aarch64-apple-darwin", BinaryFormat::Macho),
            ("aarch64-apple-ios", BinaryFormat::Macho),
            ("x86_64-pc-windows-gnu", BinaryFormat::Coff),
            ("aarch64-linux-android", BinaryFormat::Elf),
            ("x86_64-unknown-none", BinaryFormat::Elf),
            ("x86_64-unknown-uefi", BinaryFormat::Coff),
        ] {
            assert_eq!(resolve(triple, "generic").unwrap().triple.binary_format, format, "{triple}");
        }
    }

    #[test]
    fn rows_are_unique() {
        for (i, r) in ROWS.iter().enumerate() {
            assert!(!ROWS[..i].iter().any(|q| q.arch == r.arch && q.name == r.name), "{}", r.name);
        }
    }

    #[test]
    fn native_is_the_host() {
        let t = resolve("native", "native");
        assert_eq!(t.is_ok(), super::native::arch().is_some());
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = |target, cpu| resolve(target, cpu).unwrap_err().to_string();
        assert!(text("x86_64", "znver9").contains("znver4"), "{}", text("x86_64", "znver9"));
        assert!(text("aarch64", "cortex-a54").contains("cortex-a53"));
        assert!(text("aarch64", "haswell").contains("is an x86_64 processor, the target is aarch64"));
        assert!(text("riscv64gc-unknown-linux-gnu", "generic").contains("not supported"));
        assert!(text("x86_64-unknown-linux-gnux32", "generic").contains("32-bit pointers"));
        assert!(text("aarch64-unknown-linux-gnu_ilp32", "generic").contains("32-bit pointers"));
        assert!(text("spam", "generic").contains("unknown target"));
        assert!(text("aarch64", "generic,vector=256").contains("128 bits"));
        assert!(text("x86_64", "generic,wide").contains("vector=128"));
        assert_eq!(resolve("x86_64", "nope").unwrap_err().exit_code(), 2);
    }
}
