//! Loads an object into this process and runs it: how tests and `lmc verify` execute host objects.
//!
//! Takes ELF objects as `emit` writes them, for the architecture that lmc itself runs on: no
//! undefined symbol, and the few kinds of relocation listed in `apply`.

use crate::base::abi;
use crate::error::{Error, Kind, Result};
use memmap2::{Mmap, MmapMut};
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionIndex, elf};
use std::collections::HashMap;
use std::ffi::c_void;

/// A model in executable memory.
pub struct Loaded {
    memory: Mmap,
    /// Where in `memory` its description lies.
    model: usize,
}

impl Loaded {
    /// Loads the object that exports `NAME_model`, `name` being NAME.
    pub fn load(object: &[u8], name: &str) -> Result<Loaded> {
        let file = object::File::parse(object).map_err(|e| refuse(e.to_string()))?;
        let here = match std::env::consts::ARCH {
            "x86_64" => object::Architecture::X86_64,
            "aarch64" => object::Architecture::Aarch64,
            _ => object::Architecture::Unknown,
        };
        if file.architecture() != here || file.format() != object::BinaryFormat::Elf {
            return Err(refuse("it is not an ELF object for this machine"));
        }
        let mut image = Image::place(&file)?;
        image.relocate(&file)?;
        let wanted = format!("{name}_model");
        let symbol = file.symbols().find(|s| s.name() == Ok(&wanted));
        let symbol = symbol.ok_or_else(|| refuse(format!("it does not define {wanted}")))?;
        let model = image.address(&symbol)?;
        if model + size_of::<abi::Model>() > image.memory.len() {
            return Err(refuse("its description is cut off"));
        }
        let memory = image.memory.make_exec().map_err(|e| io("make memory executable", e))?;
        Ok(Loaded { memory, model })
    }

    /// The description of the model.
    pub fn model(&self) -> &abi::Model {
        // SAFETY: `load` checked that the structure lies in the memory; sections are aligned to at
        // least 8 bytes; the object's relocations made its pointers point into the memory, which
        // lives as long as `self` and is never written again.
        unsafe { &*self.memory.as_ptr().add(self.model).cast::<abi::Model>() }
    }

    /// Bytes of each input and of each output.
    pub fn sizes(&self) -> (Vec<usize>, Vec<usize>) {
        let model = self.model();
        let bytes = |tensors: *const abi::Tensor, count: u32| {
            // SAFETY: the description says that `count` tensors lie there.
            (0..count as usize).map(|i| unsafe { (*tensors.add(i)).bytes as usize }).collect()
        };
        (bytes(model.inputs, model.input_count), bytes(model.outputs, model.output_count))
    }

    /// Runs one inference on a fresh arena; gives the model's result (0 or an `LMC_ERR_*`).
    ///
    /// `inputs` has the bytes of each input, at least those of its description; `symbols` one size
    /// per run-time symbol. `outputs` are replaced by the outputs, at their bounds.
    pub fn run(&self, inputs: &[&[u8]], symbols: &mut [i64], outputs: &mut Vec<Vec<u8>>) -> Result<i32> {
        let mut arena = Arena::new(self.model())?;
        self.run_in(&mut arena, inputs, symbols, outputs)
    }

    /// As [`Loaded::run`], on an arena that is kept between runs.
    pub fn run_in(
        &self,
        arena: &mut Arena,
        inputs: &[&[u8]],
        symbols: &mut [i64],
        outputs: &mut Vec<Vec<u8>>,
    ) -> Result<i32> {
        let model = self.model();
        let (input_bytes, output_bytes) = self.sizes();
        let fits = inputs.len() == input_bytes.len()
            && inputs.iter().zip(&input_bytes).all(|(given, &bytes)| given.len() >= bytes);
        if !fits || symbols.len() != model.symbol_count as usize || arena.bytes < model.arena_bytes {
            return Err(Error::bug("the inputs, symbols or arena do not fit the loaded model"));
        }
        outputs.resize(output_bytes.len(), Vec::new());
        outputs.iter_mut().zip(&output_bytes).for_each(|(output, &bytes)| output.resize(bytes, 0));
        let inputs: Vec<*const c_void> = inputs.iter().map(|i| i.as_ptr().cast()).collect();
        let outputs: Vec<*mut c_void> = outputs.iter_mut().map(|o| o.as_mut_ptr().cast()).collect();
        // SAFETY: `run` is lmc's code for this machine; it reads the inputs and writes the outputs
        // and the arena within the sizes of the description, which were checked above.
        Ok(unsafe { (model.run)(inputs.as_ptr(), outputs.as_ptr(), symbols.as_mut_ptr(), arena.start()) })
    }
}

/// Scratch memory of a model.
pub struct Arena {
    memory: MmapMut,
    align: usize,
    bytes: u64,
}

impl Arena {
    /// An arena as the model asks for; an error where the machine has not as much memory.
    pub fn new(model: &abi::Model) -> Result<Arena> {
        let align = (model.arena_align as usize).max(1);
        let memory = MmapMut::map_anon(model.arena_bytes as usize + align);
        let memory = memory.map_err(|e| io("allocate memory", e))?;
        Ok(Arena { memory, align, bytes: model.arena_bytes })
    }

    /// The memory that the model uses, from its aligned start.
    pub fn contents(&mut self) -> &mut [u8] {
        let skip = self.memory.as_ptr().align_offset(self.align);
        &mut self.memory[skip..]
    }

    fn start(&mut self) -> *mut c_void {
        self.contents().as_mut_ptr().cast()
    }
}

/// The sections of an object in memory that can still be written.
struct Image {
    memory: MmapMut,
    sections: HashMap<SectionIndex, usize>,
}

impl Image {
    /// Copies the sections that are needed at run time.
    fn place(file: &object::File<'_>) -> Result<Image> {
        let mut sections = HashMap::new();
        let mut at = 0usize;
        for section in file.sections().filter(needed) {
            at = at.next_multiple_of(section.align().clamp(16, 4096) as usize);
            sections.insert(section.index(), at);
            at += section.size() as usize;
        }
        let mut memory = MmapMut::map_anon(at.max(1)).map_err(|e| io("allocate memory", e))?;
        for section in file.sections().filter(needed) {
            let data = section.data().map_err(|e| refuse(e.to_string()))?;
            let start = sections[&section.index()];
            memory[start..start + data.len()].copy_from_slice(data);
        }
        Ok(Image { memory, sections })
    }

    /// Where in the memory a symbol lies.
    fn address<'a>(&self, symbol: &impl ObjectSymbol<'a>) -> Result<usize> {
        let section = symbol.section_index().and_then(|index| self.sections.get(&index));
        let undefined = || refuse(format!("the symbol {} is undefined", symbol.name().unwrap_or("?")));
        Ok(section.ok_or_else(undefined)? + symbol.address() as usize)
    }

    fn relocate(&mut self, file: &object::File<'_>) -> Result<()> {
        let base = self.memory.as_ptr() as u64;
        for section in file.sections().filter(needed) {
            let start = self.sections[&section.index()];
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    return Err(refuse("it has a relocation without symbol"));
                };
                let symbol = file.symbol_by_index(index).map_err(|e| refuse(e.to_string()))?;
                let to = base + self.address(&symbol)? as u64;
                let to = to.wrapping_add_signed(relocation.addend());
                let RelocationFlags::Elf { r_type } = relocation.flags() else {
                    return Err(refuse("it has a relocation of another format"));
                };
                let place = start + offset as usize;
                self.apply(file.architecture(), r_type, place, to, base + place as u64)?;
            }
        }
        Ok(())
    }

    /// Fills in one place, which lies at `from`, with what lies at `to`.
    fn apply(
        &mut self,
        arch: object::Architecture,
        kind: u32,
        place: usize,
        to: u64,
        from: u64,
    ) -> Result<()> {
        let x86 = arch == object::Architecture::X86_64;
        let distance = to.wrapping_sub(from) as i64;
        match kind {
            elf::R_X86_64_64 if x86 => self.put(place, &to.to_le_bytes()),
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 if x86 => {
                let near = i32::try_from(distance).map_err(|_| refuse("it is too large to load"))?;
                self.put(place, &near.to_le_bytes())
            }
            elf::R_AARCH64_ABS64 if !x86 => self.put(place, &to.to_le_bytes()),
            elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 if !x86 => {
                self.insert(place, (distance >> 2) as u32 & 0x03ff_ffff)
            }
            elf::R_AARCH64_ADR_PREL_PG_HI21 if !x86 => {
                let pages = ((to >> 12) as i64 - (from >> 12) as i64) as u32;
                self.insert(place, (pages & 3) << 29 | (pages >> 2 & 0x7ffff) << 5)
            }
            elf::R_AARCH64_ADD_ABS_LO12_NC if !x86 => self.insert(place, (to as u32 & 0xfff) << 10),
            other => Err(refuse(format!("it has a relocation of kind {other}"))),
        }
    }

    fn put(&mut self, place: usize, value: &[u8]) -> Result<()> {
        let outside = || refuse("it has a relocation outside its section");
        let bytes = self.memory.get_mut(place..place + value.len()).ok_or_else(outside)?;
        bytes.copy_from_slice(value);
        Ok(())
    }

    /// Sets bits of an instruction.
    fn insert(&mut self, place: usize, bits: u32) -> Result<()> {
        let outside = || refuse("it has a relocation outside its section");
        let bytes = self.memory.get(place..place + 4).ok_or_else(outside)?;
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) | bits;
        self.put(place, &word.to_le_bytes())
    }
}

/// Whether a section is part of the program.
fn needed<'a>(section: &impl ObjectSection<'a>) -> bool {
    match section.flags() {
        object::SectionFlags::Elf { sh_flags } => {
            sh_flags & u64::from(elf::SHF_ALLOC) != 0 && section.size() > 0
        }
        _ => false,
    }
}

fn refuse(reason: impl std::fmt::Display) -> Error {
    Error::new(Kind::Target, format!("the object cannot be loaded: {reason}"))
}

fn io(what: &str, error: std::io::Error) -> Error {
    Error::new(Kind::Io, format!("cannot {what} for the object: {error}"))
}
