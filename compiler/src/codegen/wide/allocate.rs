//! Virtual registers to registers.
//!
//! Registers are given in the order in which values begin, the first that is free wherever the
//! value lives (`live`), a copy's partner preferred. Where none is free, the value whose loads and
//! stores cost least for what its register is worth, among those alive there, gives way; those that did
//! are kept in memory (`spill`), and all is done again.

use super::Isa;
use super::inst::{Again, Arg, Class, Function, VReg};
use super::rows::Op;
use super::spill;
use crate::codegen::live::Instruction;
use crate::codegen::live::{Ranges, ranges};
use std::collections::BTreeMap;

/// Numbers of the general registers in the order of use: caller-saved first (rax rcx rdx rsi rdi
/// r8-r11, then rbx r14 r15 rbp r12 r13), those that need longer addresses last.
const GENERAL: &[u8] = &[0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 14, 15, 5, 12, 13];

/// The number of rdi, which the arguments come in.
const ARGUMENTS: u8 = 7;

/// The number of rbp, which holds the stack pointer where vectors on the stack are aligned.
const FRAME: u8 = 5;

/// The occupied ranges of one register: start to end.
#[derive(Clone, Default)]
struct Busy(BTreeMap<u32, u32>);

impl Busy {
    fn free(&self, ranges: &Ranges) -> bool {
        ranges.iter().all(|&(start, end)| {
            self.0.range(..end).next_back().is_none_or(|(_, &busy_end)| busy_end <= start)
        })
    }

    fn take(&mut self, ranges: &Ranges) {
        self.0.extend(ranges.iter().copied());
    }

    fn give(&mut self, ranges: &Ranges) {
        ranges.iter().for_each(|range| _ = self.0.remove(&range.0));
    }
}

fn file(isa: Isa, class: Class, aligned: bool) -> Vec<u8> {
    match class {
        Class::Vector => (0..if isa.masks { 32 } else { 16 }).collect(),
        Class::Mask => (1..8).collect(),
        Class::Gpr if aligned => GENERAL.iter().copied().filter(|&n| n != FRAME).collect(),
        Class::Gpr => GENERAL.to_vec(),
    }
}

/// The registers' numbers; the function is changed where values are kept in memory.
pub fn allocate(f: &mut Function, isa: Isa) -> Result<Vec<u8>, String> {
    let mut spilled = 0;
    for _ in 0..1000 {
        let ranges = ranges(&f.insts, f.regs.len());
        // Few at a time where few are, since each changes what is best for the next.
        match assign(f, isa, &ranges, 1 + spilled / 8) {
            Ok(numbers) => return Ok(numbers),
            Err(victims) => {
                let victims = victims?;
                spilled += victims.len();
                victims.into_iter().for_each(|v| spill::spill(f, isa, v));
            }
        }
    }
    Err("the register allocation does not end".into())
}

type Victims = Result<Vec<VReg>, String>;

/// The registers given so far.
struct Files<'a> {
    ranges: &'a [Ranges],
    busy: BTreeMap<(Class, u8), Busy>,
    numbers: Vec<u8>,
}

impl Files<'_> {
    fn is_free(&self, class: Class, number: u8, r: VReg) -> bool {
        self.busy.get(&(class, number)).is_none_or(|b| b.free(&self.ranges[r as usize]))
    }

    fn take(&mut self, class: Class, number: u8, r: VReg) {
        self.busy.entry((class, number)).or_default().take(&self.ranges[r as usize]);
        self.numbers[r as usize] = number;
    }

    fn give(&mut self, class: Class, r: VReg) {
        let number = std::mem::replace(&mut self.numbers[r as usize], u8::MAX);
        if let Some(busy) = self.busy.get_mut(&(class, number)) {
            busy.give(&self.ranges[r as usize]);
        }
    }
}

/// The numbers, or at most `limit` values to keep in memory.
fn assign(f: &Function, isa: Isa, ranges: &[Ranges], limit: usize) -> Result<Vec<u8>, Victims> {
    let mut order: Vec<VReg> =
        (0..f.regs.len() as VReg).filter(|&r| !ranges[r as usize].is_empty()).collect();
    order.sort_by_key(|&r| ranges[r as usize][0].0);
    let partners = partners(f);
    let arguments = f.insts.iter().find(|i| i.op == Op::Arguments).and_then(|i| match i.args[0] {
        Arg::Reg(r) => Some(r),
        _ => None,
    });
    let aligned = f.aligned_stack();
    let mut files = Files { ranges, busy: BTreeMap::new(), numbers: vec![u8::MAX; f.regs.len()] };
    let mut victims = Vec::new();
    let mut prices = None;
    for &r in &order {
        let class = f.regs[r as usize].class;
        let partners = partners[r as usize].iter().map(|&p| files.numbers[p as usize]);
        let wanted: Vec<u8> = partners.filter(|&n| n != u8::MAX).collect();
        let first = (Some(r) == arguments).then_some(ARGUMENTS);
        let all = || first.into_iter().chain(wanted.iter().copied()).chain(file(isa, class, aligned));
        while files.numbers[r as usize] == u8::MAX && !victims.contains(&r) {
            if let Some(number) = all().find(|&n| files.is_free(class, n, r)) {
                files.take(class, number, r);
                continue;
            }
            let prices = prices.get_or_insert_with(|| self::prices(f, isa, ranges));
            match victim(f, ranges, prices, r, &victims) {
                Some(victim) => {
                    files.give(class, victim);
                    victims.push(victim);
                    if victims.len() == limit {
                        return Err(Ok(victims));
                    }
                }
                None => {
                    return Err(Err(format!(
                        "more {class:?} registers are needed at once than the target has"
                    )));
                }
            }
        }
    }
    if victims.is_empty() { Ok(files.numbers) } else { Err(Ok(victims)) }
}

/// Registers that copies and accumulations would like to be one.
fn partners(f: &Function) -> Vec<Vec<VReg>> {
    let mut partners = vec![Vec::new(); f.regs.len()];
    for inst in &f.insts {
        let joins = matches!(inst.op, Op::Movaps | Op::KMove | Op::Mov | Op::Fma32 | Op::Fma64);
        if let (true, [Arg::Reg(a), Arg::Reg(b), ..]) = (joins, &inst.args[..]) {
            partners[*a as usize].push(*b);
            partners[*b as usize].push(*a);
        }
    }
    partners
}

fn overlap(a: &Ranges, b: &Ranges) -> bool {
    a.iter().any(|x| b.iter().any(|y| x.0 < y.1 && y.0 < x.1))
}

/// The cheapest value to keep in memory among those alive where `r` begins; not one of `gone`.
fn victim(f: &Function, ranges: &[Ranges], prices: &[f64], r: VReg, gone: &[VReg]) -> Option<VReg> {
    let class = f.regs[r as usize].class;
    let begin = vec![(ranges[r as usize][0].0, ranges[r as usize][0].0 + 1)];
    let alive = |&v: &VReg| {
        let info = &f.regs[v as usize];
        let here = v == r || overlap(&ranges[v as usize], &begin);
        info.class == class && !info.short && here && !gone.contains(&v)
    };
    let length = |v: VReg| ranges[v as usize].iter().map(|r| r.1 - r.0).sum::<u32>();
    (0..f.regs.len() as VReg)
        .filter(alive)
        .min_by(|&a, &b| prices[a as usize].total_cmp(&prices[b as usize]).then(length(b).cmp(&length(a))))
}

/// What keeping each value in memory costs for what it relieves: a constant that is read in one loop and
/// alive in all others costs more than what lives for two instructions, and is worth as many of those.
fn prices(f: &Function, isa: Isa, ranges: &[Ranges]) -> Vec<f64> {
    let relief = relief(f, isa, ranges);
    costs(f).iter().zip(&relief).map(|(cost, relief)| cost / relief.max(1.0)).collect()
}

/// How often each value is alive where more values are than there are registers: each place ten times
/// per loop around.
fn relief(f: &Function, isa: Isa, ranges: &[Ranges]) -> Vec<f64> {
    let mut relief = vec![0.0; f.regs.len()];
    for class in [Class::Vector, Class::Mask, Class::Gpr] {
        let registers = file(isa, class, f.aligned_stack()).len() as i64;
        let of_class = || (0..f.regs.len()).filter(|&r| f.regs[r].class == class);
        let mut changes = vec![0i64; 2 * f.insts.len() + 1];
        for &(start, end) in of_class().flat_map(|r| &ranges[r]) {
            changes[start as usize] += 1;
            changes[end as usize] -= 1;
        }
        let (mut alive, mut sums) = (0, vec![0.0]);
        for (at, change) in changes.iter().enumerate() {
            alive += change;
            let often = f.insts.get(at / 2).map_or(0.0, |i| 10f64.powi(i.depth as i32));
            sums.push(sums[at] + if alive > registers { often } else { 0.0 });
        }
        for r in of_class() {
            relief[r] = ranges[r].iter().map(|&(start, end)| sums[end as usize] - sums[start as usize]).sum();
        }
    }
    relief
}

/// What keeping each value in memory costs: its loads and stores, each ten times per loop around.
fn costs(f: &Function) -> Vec<f64> {
    let mut costs = vec![0.0; f.regs.len()];
    for inst in &f.insts {
        let often = 10f64.powi(inst.depth as i32);
        inst.visit(|r, read, written| {
            let again = f.regs[r as usize].again != Again::No;
            costs[r as usize] += often
                * if again {
                    f64::from(u8::from(read)) * 0.5
                } else {
                    f64::from(u8::from(read) + u8::from(written))
                };
        });
    }
    costs
}
