//! Instructions with registers to bytes: prologue and epilogue, distances, constants after the code.

use super::Result;
use super::inst::{Class, Function, Inst, Kind};
use super::words;
use crate::codegen::live::Instruction;
use std::collections::HashMap;

/// General registers that callees keep, in pairs.
const SAVED_GENERAL: &[(u8, u8)] = &[(19, 20), (21, 22), (23, 24), (25, 26), (27, 28), (30, 31)];
/// Vector registers whose lower halves callees keep, in pairs.
const SAVED_VECTORS: &[(u8, u8)] = &[(8, 9), (10, 11), (12, 13), (14, 15)];

/// `stp xt, xt2, [sp, #offset]` and `ldp`, and the same of `dt`: the offset in units of 8 bytes at 15.
const STP_X: u32 = 0xa900_0000;
const LDP_X: u32 = 0xa940_0000;
const STP_D: u32 = 0x6d00_0000;
const LDP_D: u32 = 0x6d40_0000;
/// The number of the stack pointer as a base.
const SP: u32 = 31;

/// Code and the bytes of stack it uses.
pub struct Emitted {
    pub bytes: Vec<u8>,
    pub stack: usize,
}

/// Encodes a function whose registers have numbers.
pub fn emit(f: &Function, numbers: &[u8]) -> Result<Emitted> {
    let used = |class: Class, pair: &&(u8, u8)| {
        let mut found = false;
        for inst in &f.insts {
            inst.visit(|r, _, _| {
                let number = numbers[r as usize];
                found |= f.regs[r as usize].class == class && (number == pair.0 || number == pair.1);
            });
        }
        found
    };
    let general: Vec<_> = SAVED_GENERAL.iter().filter(|p| used(Class::General, p)).copied().collect();
    let vectors: Vec<_> = SAVED_VECTORS.iter().filter(|p| used(Class::Vector, p)).copied().collect();
    let saved = general.iter().map(|p| (p, STP_X, LDP_X)).chain(vectors.iter().map(|p| (p, STP_D, LDP_D)));
    let slots = 16 * f.slots;
    let saves: Vec<(u32, u32)> = (saved.enumerate())
        .map(|(i, (&(a, b), store, load))| {
            let fields = (2 * i as u32) << 15 | u32::from(b) << 10 | SP << 5 | u32::from(a);
            (store | fields, load | fields)
        })
        .collect();
    let frame = slots + 16 * saves.len() as u32;
    if frame >= 4096 {
        return Err("a large stack".into());
    }
    let mut e =
        Emitter { numbers, slots_at: 16 * saves.len() as u32, words: Vec::new(), labels: HashMap::new() };
    let mut jumps: Vec<(usize, Kind)> = Vec::new();
    if frame > 0 {
        e.words.push(words::SUB_IMM | frame << 10 | SP << 5 | SP);
    }
    e.words.extend(saves.iter().map(|s| s.0));
    for inst in &f.insts {
        match inst.kind {
            Kind::Label(label) => {
                e.labels.insert(label, e.words.len());
            }
            Kind::Arguments => {}
            Kind::Return => {
                e.words.extend(saves.iter().map(|s| s.1));
                if frame > 0 {
                    e.words.push(words::ADD_IMM | frame << 10 | SP << 5 | SP);
                }
                e.words.push(words::MOVZ);
                e.words.push(words::RET);
            }
            Kind::Jump(_) | Kind::Literal(_) => {
                jumps.push((e.words.len(), inst.kind));
                e.inst(inst)?;
            }
            Kind::Move if e.number(inst, 0)? == e.number(inst, 1)? => {}
            _ => e.inst(inst)?,
        }
    }
    let pool = e.words.len().next_multiple_of(4);
    for (at, kind) in jumps {
        let to = match kind {
            Kind::Jump(label) => *e.labels.get(&label).ok_or("a jump to nowhere")?,
            Kind::Literal(number) => pool + 4 * number as usize,
            _ => at,
        };
        let distance = to as i64 - at as i64;
        e.words[at] |= match e.words[at] {
            words::B => distance as u32 & 0x03ff_ffff,
            _ if (-(1 << 18)..1 << 18).contains(&distance) => (distance as u32 & 0x7_ffff) << 5,
            _ => return Err("a distance over a mebibyte".into()),
        };
    }
    if !f.pool.is_empty() {
        // Never executed.
        e.words.resize(pool, 0);
    }
    let mut bytes: Vec<u8> = e.words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.extend(f.pool.iter().flatten());
    Ok(Emitted { bytes, stack: frame as usize })
}

struct Emitter<'a> {
    numbers: &'a [u8],
    /// Where the slots begin, from the stack pointer.
    slots_at: u32,
    words: Vec<u32>,
    labels: HashMap<i64, usize>,
}

impl Emitter<'_> {
    fn number(&self, inst: &Inst, field: usize) -> Result<u8> {
        let number = inst.fields.get(field).map(|f| self.numbers[f.reg as usize]);
        number.filter(|&n| n != u8::MAX).ok_or_else(|| "a register is read that nothing wrote".into())
    }

    fn inst(&mut self, inst: &Inst) -> Result<()> {
        let mut word = inst.word;
        for (i, field) in inst.fields.iter().enumerate() {
            word |= u32::from(self.number(inst, i)?) << field.at;
        }
        if let Kind::Slot(slot) = inst.kind {
            let size = if word >> 30 == 3 && word >> 26 & 1 == 0 { 8 } else { 16 };
            word |= ((self.slots_at + 16 * slot) / size) << 10 | SP << 5;
        }
        self.words.push(word);
        Ok(())
    }
}
