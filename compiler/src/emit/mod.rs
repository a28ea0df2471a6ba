//! The object file: code, constants, and the description of the model that applications read.
//!
//! | section | holds |
//! |---|---|
//! | text | the kernels, equal ones once, and `run` |
//! | read-only data | packed constants, steps, names, shapes |
//! | read-only data with relocations | `NAME_model` and the tables it points to |
//!
//! Only `NAME_model` is visible outside; nothing is undefined, nothing is writable once loaded. All
//! references within the code are pc-relative. The bytes depend on the program alone.

mod describe;

use crate::codegen::{Code, Compiled, Reloc, RelocKind, Steps, Symbol};
use crate::error::{Error, Result};
use crate::plan::Program;
use crate::target::{Arch, Target};
use describe::{Pointee, Pointer, describe};
use object::write::{Object, Relocation, SectionId, StandardSection, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationEncoding, RelocationFlags, RelocationKind, SectionKind,
    SymbolFlags, SymbolKind, SymbolScope, elf, macho,
};
use std::collections::HashMap;

/// An object file.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    /// The file.
    pub bytes: Vec<u8>,
    /// Bytes of machine code in it.
    pub code_bytes: usize,
    /// Bytes of read-only data in it.
    pub constant_bytes: usize,
}

/// Writes the object file of a program. Errors are defects of what it is given.
pub fn emit(program: &Program, compiled: &Compiled, target: &Target) -> Result<Emitted> {
    let mut writer = Writer::new(program, target)?;
    let constants = writer.constants(program);
    let kernels = writer.kernels(program, compiled)?;
    let name = writer.local("run", "");
    let run = writer.function(&name, &compiled.run);
    let steps = writer.steps(&compiled.steps, &kernels)?;
    let numbers = writer.numbers(&compiled.steps);
    for reloc in &compiled.run.relocs {
        let to = match reloc.to {
            Symbol::Kernels => kernels.first(),
            Symbol::Constants => constants.first(),
            Symbol::Steps => Some(&steps),
            Symbol::Numbers => Some(&numbers),
        };
        let to = *to.ok_or_else(|| Error::bug("`run` refers to what does not exist"))?;
        writer.relocate(run, reloc, to)?;
    }
    writer.description(program, compiled, target, run)?;
    writer.finish()
}

struct Writer<'a> {
    object: Object<'a>,
    model: &'a str,
}

impl<'a> Writer<'a> {
    fn new(program: &'a Program, target: &Target) -> Result<Self> {
        let format = match target.triple.binary_format {
            target_lexicon::BinaryFormat::Elf => BinaryFormat::Elf,
            target_lexicon::BinaryFormat::Macho => BinaryFormat::MachO,
            target_lexicon::BinaryFormat::Coff => BinaryFormat::Coff,
            other => return Err(Error::bug(format!("object format {other:?}"))),
        };
        let architecture = match target.arch {
            Arch::X86_64 => Architecture::X86_64,
            Arch::Aarch64 => Architecture::Aarch64,
        };
        let mut object = Object::new(format, architecture, Endianness::Little);
        if let Some(platform) = platform(&target.triple) {
            let mut version = object::write::MachOBuildVersion::default();
            version.platform = platform;
            object.set_macho_build_version(version);
        }
        Ok(Writer { object, model: &program.name })
    }

    /// The name of a local symbol: it tells debuggers and profilers what they see.
    fn local(&self, what: &str, name: &str) -> String {
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
        format!("{}_{what}{}{plain}", self.model, if plain.is_empty() { "" } else { "_" })
    }

    fn data(
        &mut self,
        section: StandardSection,
        name: &str,
        bytes: &[u8],
        align: u64,
        visible: bool,
    ) -> SymbolId {
        let scope = if visible { SymbolScope::Dynamic } else { SymbolScope::Compilation };
        let symbol = self.symbol(name, SymbolKind::Data, scope);
        let section = self.object.section_id(section);
        self.object.add_symbol_data(symbol, section, bytes, align);
        symbol
    }

    /// The constants, one after another in memory that holds them all.
    fn constants(&mut self, program: &Program) -> Vec<SymbolId> {
        let section = self.object.section_id(StandardSection::ReadOnlyData);
        let (offsets, most) = program.constant_offsets();
        let mut bytes: Vec<u8> = Vec::with_capacity(most);
        let mut symbols = Vec::with_capacity(program.constants.len());
        for (i, (c, at)) in program.constants.iter().zip(offsets).enumerate() {
            let name = self.local(&format!("c{i}"), &c.name);
            let symbol = self.symbol(&name, SymbolKind::Data, SymbolScope::Compilation);
            bytes.resize(at, 0);
            bytes.extend_from_slice(&c.bytes);
            self.object.set_symbol_data(symbol, section, at as u64, c.bytes.len() as u64);
            symbols.push(symbol);
        }
        let align = program.constants.iter().map(|c| c.align as u64).max().unwrap_or(1);
        self.object.set_section_data(section, bytes, align);
        symbols
    }

    fn symbol(&mut self, name: &str, kind: SymbolKind, scope: SymbolScope) -> SymbolId {
        self.object.add_symbol(object::write::Symbol {
            name: name.as_bytes().to_vec(),
            value: 0,
            size: 0,
            kind,
            scope,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        })
    }

    fn function(&mut self, name: &str, code: &Code) -> SymbolId {
        let symbol = self.symbol(name, SymbolKind::Text, SymbolScope::Compilation);
        let text = self.object.section_id(StandardSection::Text);
        self.object.add_symbol_data(symbol, text, &code.bytes, code.align);
        symbol
    }

    /// The kernels, equal ones once.
    fn kernels(&mut self, program: &Program, compiled: &Compiled) -> Result<Vec<SymbolId>> {
        let mut known: HashMap<&[u8], SymbolId> = HashMap::new();
        let mut symbols = Vec::with_capacity(compiled.kernels.len());
        for (i, (kernel, code)) in program.kernels.iter().zip(&compiled.kernels).enumerate() {
            if !code.relocs.is_empty() {
                return Err(Error::bug("a kernel refers to something outside").at(kernel.name.clone()));
            }
            let symbol = match known.get(code.bytes.as_slice()) {
                Some(&symbol) => symbol,
                None => {
                    let name = self.local(&format!("k{i}"), &kernel.name);
                    let symbol = self.function(&name, code);
                    known.insert(&code.bytes, symbol);
                    symbol
                }
            };
            symbols.push(symbol);
        }
        Ok(symbols)
    }

    /// The steps, with the distances of the kernels in their section.
    fn steps(&mut self, steps: &Steps, kernels: &[SymbolId]) -> Result<SymbolId> {
        let mut words = steps.words.clone();
        for &(at, kernel) in &steps.kernels {
            let place = |k: usize| kernels.get(k).map(|&k| self.object.symbol(k).value as i64);
            let distance = place(kernel as usize).zip(place(0)).map(|(kernel, first)| kernel - first);
            let distance = distance.and_then(|d| i32::try_from(d).ok());
            words[at] = distance.ok_or_else(|| Error::bug("a kernel out of reach"))? as u32;
        }
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let name = self.local("steps", "");
        Ok(self.data(StandardSection::ReadOnlyData, &name, &bytes, 4, false))
    }

    /// The numbers that kernels read.
    fn numbers(&mut self, steps: &Steps) -> SymbolId {
        let bytes: Vec<u8> = steps.numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let name = self.local("numbers", "");
        self.data(StandardSection::ReadOnlyData, &name, &bytes, 8, false)
    }

    /// `NAME_model`, and what it points to.
    fn description(
        &mut self,
        program: &Program,
        compiled: &Compiled,
        target: &Target,
        run: SymbolId,
    ) -> Result<()> {
        let description = describe(program, target, compiled.stack_bytes);
        let name = self.local("text", "");
        let plain = self.data(StandardSection::ReadOnlyData, &name, &description.plain, 8, false);
        let name = self.local("tables", "");
        let relocated = StandardSection::ReadOnlyDataWithRel;
        let tables = self.data(relocated, &name, &description.tables, 8, false);
        let name = format!("{}_model", self.model);
        let model = self.data(relocated, &name, &description.model, 8, true);
        for (place, pointers) in [(tables, &description.table_pointers), (model, &description.model_pointers)]
        {
            for pointer in pointers {
                let to = match pointer.to {
                    Pointee::Plain => plain,
                    Pointee::Tables => tables,
                    Pointee::Run => run,
                };
                self.point(place, pointer, to)?;
            }
        }
        Ok(())
    }

    fn point(&mut self, place: SymbolId, pointer: &Pointer, to: SymbolId) -> Result<()> {
        let flags = RelocationFlags::Generic {
            kind: RelocationKind::Absolute,
            encoding: RelocationEncoding::Generic,
            size: 64,
        };
        self.add(place, pointer.at, flags, to, pointer.offset as i64)
    }

    fn relocate(&mut self, place: SymbolId, reloc: &Reloc, to: SymbolId) -> Result<()> {
        let generic = |kind, encoding, size| RelocationFlags::Generic { kind, encoding, size };
        let flags = match reloc.kind {
            RelocKind::X86Call => generic(RelocationKind::Relative, RelocationEncoding::X86Branch, 32),
            RelocKind::X86Relative => generic(RelocationKind::Relative, RelocationEncoding::Generic, 32),
            RelocKind::A64Call => generic(RelocationKind::Relative, RelocationEncoding::AArch64Call, 26),
            RelocKind::A64Page => match self.object.format() {
                BinaryFormat::Elf => RelocationFlags::Elf { r_type: elf::R_AARCH64_ADR_PREL_PG_HI21 },
                BinaryFormat::MachO => {
                    RelocationFlags::MachO { r_type: macho::ARM64_RELOC_PAGE21, r_pcrel: true, r_length: 2 }
                }
                _ => RelocationFlags::Coff { typ: object::pe::IMAGE_REL_ARM64_PAGEBASE_REL21 },
            },
            RelocKind::A64Low => match self.object.format() {
                BinaryFormat::Elf => RelocationFlags::Elf { r_type: elf::R_AARCH64_ADD_ABS_LO12_NC },
                BinaryFormat::MachO => RelocationFlags::MachO {
                    r_type: macho::ARM64_RELOC_PAGEOFF12,
                    r_pcrel: false,
                    r_length: 2,
                },
                _ => RelocationFlags::Coff { typ: object::pe::IMAGE_REL_ARM64_PAGEOFFSET_12A },
            },
        };
        self.add(place, reloc.offset, flags, to, reloc.addend)
    }

    fn add(
        &mut self,
        place: SymbolId,
        at: u64,
        flags: RelocationFlags,
        to: SymbolId,
        addend: i64,
    ) -> Result<()> {
        let symbol = self.object.symbol(place);
        let (base, section) = (symbol.value, symbol.section.id());
        let section: SectionId = section.ok_or_else(|| Error::bug("a relocation in nothing"))?;
        let relocation = Relocation { offset: base + at, symbol: to, addend, flags };
        self.object.add_relocation(section, relocation).map_err(|e| Error::bug(format!("relocation: {e}")))
    }

    fn finish(mut self) -> Result<Emitted> {
        let code = self.object.section_id(StandardSection::Text);
        // COFF keeps both in one section.
        let mut constants = [StandardSection::ReadOnlyData, StandardSection::ReadOnlyDataWithRel]
            .map(|s| self.object.section_id(s))
            .to_vec();
        constants.dedup();
        let size = |id: SectionId| self.object.section(id).data().len();
        let (code_bytes, constant_bytes) = (size(code), constants.into_iter().map(size).sum());
        if self.object.format() == BinaryFormat::Elf {
            // Says that the stack need not be executable.
            self.object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), SectionKind::Linker);
        }
        let bytes = self.object.write().map_err(|e| Error::bug(format!("object file: {e}")))?;
        Ok(Emitted { bytes, code_bytes, constant_bytes })
    }
}

/// Apple's number for the platform of a triple.
fn platform(triple: &target_lexicon::Triple) -> Option<u32> {
    use target_lexicon::{Environment, OperatingSystem::*};
    match (triple.operating_system, triple.environment) {
        (Darwin(_) | MacOSX(_), _) => Some(macho::PLATFORM_MACOS),
        (IOS(_), Environment::Sim) => Some(macho::PLATFORM_IOSSIMULATOR),
        (IOS(_), Environment::Macabi) => Some(macho::PLATFORM_MACCATALYST),
        (IOS(_), _) => Some(macho::PLATFORM_IOS),
        _ => None,
    }
}
