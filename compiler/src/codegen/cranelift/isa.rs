//! Cranelift's description of a target, and its results in our terms.

use super::super::{Code, Reloc, RelocKind, Symbol};
use crate::error::{Error, Result};
use crate::target::{Arch, Feature, Target};
use cranelift_codegen::binemit;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{ExternalName, Function};
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa, lookup};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, FinalizedRelocTarget};

/// Cranelift's settings that each feature of a target stands for.
const FEATURES: &[(Feature, &[&str])] = &[
    (Feature::Sse41, &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"]),
    (Feature::Avx, &["has_avx"]),
    (Feature::Fma, &["has_fma"]),
    (Feature::F16c, &[]),
    (Feature::Avx2, &["has_avx2", "has_bmi1", "has_bmi2", "has_lzcnt"]),
    (Feature::Avx512, &["has_avx512f", "has_avx512vl", "has_avx512dq"]),
    (Feature::AvxVnni, &["has_avx_vnni"]),
    (Feature::Avx512Vnni, &["has_avx512vnni"]),
    (Feature::Avx512Vbmi, &["has_avx512vbmi"]),
    (Feature::Avx512Twice, &[]),
    (Feature::DotProd, &["has_dotprod"]),
    (Feature::Fp16, &["has_fp16"]),
    (Feature::I8mm, &["has_i8mm"]),
    (Feature::Bf16, &[]),
];

/// The target in Cranelift's terms, without its optimizer.
pub(crate) fn isa(target: &Target) -> Result<OwnedTargetIsa> {
    let mut flags = settings::builder();
    let mut set = |name: &str, value: &str| {
        flags.set(name, value).map_err(|e| Error::bug(format!("Cranelift's setting {name}: {e}")))
    };
    set("opt_level", "none")?;
    set("regalloc_algorithm", "backtracking")?;
    set("is_pic", "false")?;
    set("unwind_info", "false")?;
    set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
    let triple = target.triple.clone();
    let mut builder = lookup(triple).map_err(|e| Error::bug(format!("Cranelift: {e}")))?;
    for (feature, names) in FEATURES.iter().filter(|(f, _)| target.has(*f)) {
        for name in *names {
            builder.enable(name).map_err(|e| Error::bug(format!("Cranelift's {name} ({feature:?}): {e}")))?;
        }
    }
    builder
        .finish(settings::Flags::new(flags))
        .map_err(|e| Error::bug(format!("Cranelift refuses the target: {e}")))
}

/// Compiles a function. External names are the numbers of [`Symbol`].
pub(crate) fn finish(function: Function, isa: &dyn TargetIsa) -> Result<Code> {
    let mut context = Context::for_function(function);
    context.compile(isa, &mut ControlPlane::default()).map_err(|e| {
        Error::bug(format!("Cranelift: {}", cranelift_codegen::print_errors::pretty_error(e.func, e.inner)))
    })?;
    let compiled = context.compiled_code().ok_or_else(|| Error::bug("Cranelift compiled nothing"))?;
    let buffer = &compiled.buffer;
    let mut relocs = Vec::new();
    for reloc in buffer.relocs() {
        let FinalizedRelocTarget::ExternalName(ExternalName::User(name)) = reloc.target else {
            return Err(Error::bug(format!("Cranelift refers to {:?}", reloc.target)));
        };
        let name = &context.func.params.user_named_funcs()[name];
        let to = [Symbol::Kernels, Symbol::Constants, Symbol::Steps, Symbol::Numbers]
            .into_iter()
            .find(|s| *s as u32 == name.index);
        let to = to.ok_or_else(|| Error::bug("Cranelift calls a function outside"))?;
        let kind = kind_of(reloc.kind)?;
        relocs.push(Reloc { offset: u64::from(reloc.offset), kind, to, addend: reloc.addend });
    }
    // The frame below the frame pointer, the saved frame pointer, and the return address.
    let frame = buffer.frame_layout().map_or(0, |f| f.frame_to_fp_offset as usize) + 16;
    let align = u64::from(buffer.alignment).max(16);
    Ok(Code { bytes: buffer.data().to_vec(), align, relocs, stack: frame })
}

/// Cranelift's kind of a relocation in our terms.
fn kind_of(kind: binemit::Reloc) -> Result<RelocKind> {
    Ok(match kind {
        binemit::Reloc::X86CallPCRel4 | binemit::Reloc::X86CallPLTRel4 => RelocKind::X86Call,
        binemit::Reloc::X86PCRel4 => RelocKind::X86Relative,
        binemit::Reloc::Arm64Call => RelocKind::A64Call,
        binemit::Reloc::Aarch64AdrPrelPgHi21 => RelocKind::A64Page,
        binemit::Reloc::Aarch64AddAbsLo12Nc => RelocKind::A64Low,
        other => return Err(Error::bug(format!("Cranelift made a relocation of kind {other}"))),
    })
}

/// Whether the target is x86_64 without SSE4.1: Cranelift lacks roundings there.
pub(super) fn baseline_x86(target: &Target) -> bool {
    target.arch == Arch::X86_64 && !target.has(Feature::Sse41)
}
