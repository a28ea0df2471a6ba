//! Instructions with registers to bytes: prologue and epilogue, distances, constants after the code.

use super::Result;
use super::inst::{Class, Function, Inst, Kind, NOWHERE};
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

/// What a function keeps on the stack.
struct Frame {
    /// The instructions that save registers which callees keep, and those that load them again.
    saves: Vec<(u32, u32)>,
    /// Bytes, with those of spilled registers behind the saved ones.
    bytes: u32,
}

impl Frame {
    fn of(f: &Function, numbers: &[u8]) -> Result<Frame> {
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
        let general = SAVED_GENERAL.iter().filter(|p| used(Class::General, p)).map(|p| (p, STP_X, LDP_X));
        let vectors = SAVED_VECTORS.iter().filter(|p| used(Class::Vector, p)).map(|p| (p, STP_D, LDP_D));
        let saves: Vec<(u32, u32)> = (general.chain(vectors).enumerate())
            .map(|(i, (&(a, b), store, load))| {
                let fields = (2 * i as u32) << 15 | u32::from(b) << 10 | SP << 5 | u32::from(a);
                (store | fields, load | fields)
            })
            .collect();
        let bytes = 16 * (f.slots + saves.len() as u32);
        if bytes >= 4096 {
            return Err("a large stack".into());
        }
        Ok(Frame { saves, bytes })
    }

    fn enter(&self, words: &mut Vec<u32>) {
        if self.bytes > 0 {
            words.push(words::SUB_IMM | self.bytes << 10 | SP << 5 | SP);
        }
        words.extend(self.saves.iter().map(|s| s.0));
    }

    fn leave(&self, words: &mut Vec<u32>) {
        words.extend(self.saves.iter().map(|s| s.1));
        if self.bytes > 0 {
            words.push(words::ADD_IMM | self.bytes << 10 | SP << 5 | SP);
        }
    }
}

/// Encodes a function whose registers have numbers.
pub fn emit(f: &Function, numbers: &[u8]) -> Result<Emitted> {
    let frame = Frame::of(f, numbers)?;
    let slots_at = 16 * frame.saves.len() as u32;
    let mut e = Emitter { numbers, slots_at, words: Vec::new(), labels: HashMap::new() };
    let mut jumps: Vec<(usize, Kind)> = Vec::new();
    frame.enter(&mut e.words);
    let mut held = Held::default();
    for inst in &f.insts {
        if held.has(f, inst, numbers) {
            continue;
        }
        match inst.kind {
            Kind::Label(label) => {
                e.labels.insert(label, e.words.len());
            }
            Kind::Arguments => {}
            Kind::Return => {
                frame.leave(&mut e.words);
                e.words.extend([words::MOVZ, words::RET]);
            }
            Kind::Jump(_) | Kind::Literal(_) => {
                jumps.push((e.words.len(), inst.kind));
                e.inst(inst)?;
            }
            Kind::Tuple { count, copies } => e.tuple(inst, usize::from(count), copies)?,
            Kind::Table(count) if !consecutive(&e.numbers(inst, usize::from(count))?) => {
                return Err("the registers of a table are apart".into());
            }
            Kind::Turns(count) => e.turns(inst, usize::from(count))?,
            Kind::Move if e.number(inst, 0)? == e.number(inst, 1)? => {}
            _ => e.inst(inst)?,
        }
    }
    let pool = e.words.len().next_multiple_of(4);
    jumps.into_iter().try_for_each(|(at, kind)| e.reach(at, kind, pool))?;
    if !f.pool.is_empty() {
        // Never executed.
        e.words.resize(pool, 0);
    }
    let mut bytes: Vec<u8> = e.words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.extend(f.pool.iter().flatten());
    Ok(Emitted { bytes, stack: frame.bytes as usize })
}

/// The constants that vector registers hold: one that is made again for every use is often still there.
#[derive(Default)]
struct Held([Option<(u32, Kind)>; 32]);

impl Held {
    /// Whether an instruction makes a constant that its register holds; takes note of what it writes.
    fn has(&mut self, f: &Function, inst: &Inst, numbers: &[u8]) -> bool {
        let made = (inst.word, inst.kind);
        let constant = match (&inst.fields[..], inst.kind) {
            ([one], Kind::Plain | Kind::Literal(_)) => one.written && !one.read,
            _ => false,
        };
        if inst.label().is_some() {
            *self = Held::default();
        }
        let mut same = constant;
        inst.visit(|r, _, written| {
            if !written || f.regs[r as usize].class != Class::Vector {
                same &= !written;
                return;
            }
            let Some(held) = self.0.get_mut(usize::from(numbers[r as usize])) else {
                same = false;
                return;
            };
            same &= *held == Some(made);
            *held = constant.then_some(made);
        });
        same
    }
}

struct Emitter<'a> {
    numbers: &'a [u8],
    /// Where the slots begin, from the stack pointer.
    slots_at: u32,
    words: Vec<u32>,
    labels: HashMap<i64, usize>,
}

impl Emitter<'_> {
    /// Puts the distance to a label, or to a constant behind the code, in the instruction at `at`.
    fn reach(&mut self, at: usize, kind: Kind, pool: usize) -> Result<()> {
        let to = match kind {
            Kind::Jump(label) => *self.labels.get(&label).ok_or("a jump to nowhere")?,
            Kind::Literal(number) => pool + 4 * number as usize,
            _ => at,
        };
        let distance = to as i64 - at as i64;
        self.words[at] |= match self.words[at] {
            words::B => distance as u32 & 0x03ff_ffff,
            _ if (-(1 << 18)..1 << 18).contains(&distance) => (distance as u32 & 0x7_ffff) << 5,
            _ => return Err("a distance over a mebibyte".into()),
        };
        Ok(())
    }

    fn number(&self, inst: &Inst, field: usize) -> Result<u8> {
        let number = inst.fields.get(field).map(|f| self.numbers[f.reg as usize]);
        number.filter(|&n| n != u8::MAX).ok_or_else(|| "a register is read that nothing wrote".into())
    }

    fn inst(&mut self, inst: &Inst) -> Result<()> {
        let mut word = inst.word;
        for (i, field) in inst.fields.iter().enumerate().filter(|f| f.1.at != NOWHERE) {
            word |= u32::from(self.number(inst, i)?) << field.at;
        }
        if let Kind::Slot(slot) = inst.kind {
            let size = if word >> 30 == 3 && word >> 26 & 1 == 0 { 8 } else { 16 };
            word |= ((self.slots_at + 16 * slot) / size) << 10 | SP << 5;
        }
        self.words.push(word);
        Ok(())
    }

    /// The numbers of the first registers of an instruction.
    fn numbers(&self, inst: &Inst, count: usize) -> Result<Vec<u8>> {
        (0..count).map(|i| self.number(inst, i)).collect()
    }

    /// A store of registers that take turns: element by element where they are not consecutive.
    fn turns(&mut self, inst: &Inst, count: usize) -> Result<()> {
        let numbers = self.numbers(inst, count)?;
        if consecutive(&numbers) {
            return self.inst(inst);
        }
        let base = u32::from(self.number(inst, count)?);
        let size = words::size_of_element(inst.word);
        let step = words::AFTER | words::ZERO << 16 | base << 5;
        for lane in 0..16 / size {
            let each = numbers.iter().map(|&n| words::st1(size, lane) | step | u32::from(n));
            self.words.extend(each);
        }
        self.words.push(words::SUB_IMM | (16 * count as u32) << 10 | base << 5 | base);
        Ok(())
    }

    /// A load of several registers: one by one where they are not consecutive.
    fn tuple(&mut self, inst: &Inst, count: usize, copies: bool) -> Result<()> {
        let numbers = self.numbers(inst, count)?;
        if consecutive(&numbers) {
            return self.inst(inst);
        }
        let base = u32::from(self.number(inst, count)?);
        let size = if copies { words::size_of_element(inst.word) } else { 16 };
        let bytes = (count * size) as u32;
        for (i, &number) in numbers.iter().enumerate() {
            self.words.push(
                match copies {
                    true => words::ld_copies(1, size) | words::AFTER | words::ZERO << 16 | base << 5,
                    false => words::ldr(16).scaled | (i as u32) << 10 | base << 5,
                } | u32::from(number),
            );
        }
        let (moves, by) = (inst.word & words::AFTER != 0, inst.fields.get(count + 1));
        if copies && (!moves || by.is_some()) {
            self.words.push(words::SUB_IMM | bytes << 10 | base << 5 | base);
        }
        match by {
            Some(_) => {
                let by = u32::from(self.number(inst, count + 1)?);
                self.words.push(words::ADD | by << 16 | base << 5 | base);
            }
            None if moves && !copies => self.words.push(words::ADD_IMM | bytes << 10 | base << 5 | base),
            None => {}
        }
        Ok(())
    }
}

/// Whether each register is the next one's neighbour; the first comes after the last.
fn consecutive(numbers: &[u8]) -> bool {
    numbers.windows(2).all(|n| (n[0] + 1) % 32 == n[1])
}

#[cfg(test)]
mod tests {
    use super::super::inst::{VReg, read, update, write};
    use super::*;

    /// A load of two registers through x1, which `by` moves: the words of its code but the return.
    fn tuple(numbers: [u8; 4], copies: bool, after: u32, by: Option<u32>) -> Vec<u32> {
        let mut f = Function::default();
        let regs = [Class::Vector, Class::Vector, Class::General, Class::General].map(|class| f.reg(class));
        let word = if copies { words::ld_copies(2, 4) } else { words::ld_neighbours(2) };
        let base = if after == 0 { read(regs[2], 5) } else { update(regs[2], 5) };
        let mut fields = vec![write(regs[0], 0), write(regs[1], NOWHERE), base];
        fields.extend(by.map(|_| read(regs[3], 16)));
        f.insts.push(Inst { word: word | after, fields, kind: Kind::Tuple { count: 2, copies }, depth: 0 });
        let bytes = emit(&f, &numbers).unwrap_or_else(|e| panic!("{e}")).bytes;
        bytes.chunks(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    #[test]
    fn consecutive_registers_are_loaded_at_once() {
        // ld1 {v31.16b, v0.16b}, [x1]; ld2r {v2.4s, v3.4s}, [x1], x4.
        assert_eq!(tuple([31, 0, 1, 4], false, 0, None), [0x4c40_a03f]);
        assert_eq!(tuple([2, 3, 1, 4], true, words::AFTER, Some(4)), [0x4de4_c822]);
    }

    /// A store of three registers of 4-byte elements through x1.
    fn turns(numbers: [u8; 3]) -> Vec<u32> {
        let mut f = Function::default();
        let of = |i: usize| if i == 0 { 0 } else { NOWHERE };
        let mut fields: Vec<_> = (0..3).map(|i| read(f.reg(Class::Vector), of(i))).collect();
        fields.push(read(f.reg(Class::General), 5));
        f.insts.push(Inst { word: words::st_turns(3, 4), fields, kind: Kind::Turns(3), depth: 0 });
        let numbers = [&numbers[..], &[1]].concat();
        let bytes = emit(&f, &numbers).unwrap_or_else(|e| panic!("{e}")).bytes;
        bytes.chunks(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    #[test]
    fn registers_take_turns_where_they_are_consecutive() {
        // st3 {v31.4s, v0.4s, v1.4s}, [x1].
        assert_eq!(turns([31, 0, 1]), [0x4c00_483f]);
        let apart = turns([2, 5, 6]);
        // st1 {v2.s}[0], [x1], #4; ...; st1 {v6.s}[3], [x1], #4; sub x1, x1, #48.
        assert_eq!(
            (apart.len(), apart[0], apart[11], apart[12]),
            (13, 0x0d9f_8022, 0x4d9f_9026, 0xd100_c021)
        );
    }

    #[test]
    fn constants_that_are_there_are_not_made_again() {
        let movi = words::immediate(7).unwrap_or_default();
        let code = |between: Option<(u8, Kind)>| {
            let mut f = Function::default();
            let regs: Vec<VReg> = (0..3).map(|_| f.reg(Class::Vector)).collect();
            let made = |reg| Inst { word: movi, fields: vec![write(reg, 0)], kind: Kind::Plain, depth: 0 };
            f.insts.push(made(regs[0]));
            if let Some((_, kind)) = between {
                let fields =
                    if kind == Kind::Plain { vec![write(regs[1], 0), read(regs[0], 5)] } else { vec![] };
                f.insts.push(Inst { word: words::MVN, fields, kind, depth: 0 });
            }
            f.insts.push(made(regs[2]));
            let bytes = emit(&f, &[3, between.map_or(4, |b| b.0), 3]).unwrap_or_else(|e| panic!("{e}")).bytes;
            bytes.chunks(4).filter(|b| b[..] == (movi | 3).to_le_bytes()).count()
        };
        assert_eq!(code(None), 1);
        assert_eq!(code(Some((4, Kind::Plain))), 1);
        assert_eq!(code(Some((3, Kind::Plain))), 2, "written in between");
        assert_eq!(code(Some((4, Kind::Label(1)))), 2, "jumped to in between");
    }

    #[test]
    fn others_are_loaded_one_by_one() {
        let own = words::AFTER | words::ZERO << 16;
        // ldr q2, [x1]; ldr q5, [x1, #16]; and add x1, x1, #32, or x4.
        let plain = [0x3dc0_0022, 0x3dc0_0425, 0x9100_8021, 0x8b04_0021];
        assert_eq!(tuple([2, 5, 1, 4], false, 0, None), plain[..2]);
        assert_eq!(tuple([2, 5, 1, 4], false, own, None), plain[..3]);
        assert_eq!(tuple([2, 5, 1, 4], false, words::AFTER, Some(4)), [plain[0], plain[1], plain[3]]);
        // ld1r {v2.4s}, [x1], #4; ld1r {v5.4s}, [x1], #4; and sub x1, x1, #8; add x1, x1, x4.
        let copies = [0x4ddf_c822, 0x4ddf_c825, 0xd100_2021, 0x8b04_0021];
        assert_eq!(tuple([2, 5, 1, 4], true, own, None), copies[..2]);
        assert_eq!(tuple([2, 5, 1, 4], true, 0, None), copies[..3]);
        assert_eq!(tuple([2, 5, 1, 4], true, words::AFTER, Some(4)), copies);
    }
}
