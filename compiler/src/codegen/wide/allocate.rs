//! Virtual registers to registers.
//!
//! Registers are given in the order in which values begin, the first that is free wherever the
//! value lives (`live`), a copy's partner preferred. Where none is free, the value whose loads and
//! stores cost least, among those alive there, is kept in memory (`spill`), and all is done again.

use super::Isa;
use super::inst::{Again, Arg, Class, Function, VReg};
use super::live::{Ranges, ranges};
use super::rows::Op;
use super::spill;
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
    // Each round keeps one more value in memory.
    for _ in 0..1000 {
        let ranges = ranges(f);
        match assign(f, isa, &ranges) {
            Ok(numbers) => return Ok(numbers),
            Err(victim) => spill::spill(f, isa, victim?),
        }
    }
    Err("the register allocation does not end".into())
}

type Victim = Result<VReg, String>;

fn assign(f: &Function, isa: Isa, ranges: &[Ranges]) -> Result<Vec<u8>, Victim> {
    let mut order: Vec<VReg> =
        (0..f.regs.len() as VReg).filter(|&r| !ranges[r as usize].is_empty()).collect();
    order.sort_by_key(|&r| ranges[r as usize][0].0);
    let partners = partners(f);
    let arguments = f.insts.iter().find(|i| i.op == Op::Arguments).and_then(|i| match i.args[0] {
        Arg::Reg(r) => Some(r),
        _ => None,
    });
    let aligned = f.aligned_stack();
    let mut busy: BTreeMap<(u8, u8), Busy> = BTreeMap::new();
    let mut numbers = vec![u8::MAX; f.regs.len()];
    for &r in &order {
        let class = f.regs[r as usize].class;
        let live = &ranges[r as usize];
        let wanted = partners[r as usize].iter().map(|&p| numbers[p as usize]).filter(|&n| n != u8::MAX);
        let first = (Some(r) == arguments).then_some(ARGUMENTS);
        let choice = first
            .into_iter()
            .chain(wanted)
            .chain(file(isa, class, aligned))
            .find(|&n| busy.get(&(class as u8, n)).is_none_or(|b| b.free(live)));
        match choice {
            Some(number) => {
                busy.entry((class as u8, number)).or_default().take(live);
                numbers[r as usize] = number;
            }
            None => return Err(victim(f, ranges, r)),
        }
    }
    Ok(numbers)
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

/// The cheapest value to keep in memory among those alive where `r` begins.
fn victim(f: &Function, ranges: &[Ranges], r: VReg) -> Victim {
    let class = f.regs[r as usize].class;
    let costs = costs(f);
    let begin = vec![(ranges[r as usize][0].0, ranges[r as usize][0].0 + 1)];
    let alive = |&v: &VReg| {
        let info = &f.regs[v as usize];
        info.class == class && !info.short && (v == r || overlap(&ranges[v as usize], &begin))
    };
    let length = |v: VReg| ranges[v as usize].iter().map(|r| r.1 - r.0).sum::<u32>();
    let cheapest = (0..f.regs.len() as VReg)
        .filter(alive)
        .min_by(|&a, &b| costs[a as usize].total_cmp(&costs[b as usize]).then(length(b).cmp(&length(a))));
    cheapest.ok_or_else(|| format!("more {class:?} registers are needed at once than the target has"))
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
