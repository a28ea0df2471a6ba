//! Virtual registers to registers.
//!
//! Registers are given in the order in which values begin, the first that is free wherever the
//! value lives (`live`), a copy's partner preferred. Where none is free, the value whose loads and
//! stores cost least, among those alive there, is kept in memory (`spill`), and all is done again.

use super::inst::{Again, Class, Function, Kind, VReg};
use super::spill;
use crate::codegen::live::{Instruction, Ranges, ranges};
use std::collections::BTreeMap;

/// Numbers of the general registers in the order of use: those that callees keep last; not x18,
/// which belongs to the platform, and not x29, the frame pointer.
const GENERAL: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30,
];

/// Numbers of the vector registers in the order of use: those whose lower halves callees keep last.
const VECTORS: &[u8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 8, 9, 10, 11, 12,
    13, 14, 15,
];

/// The number of x0, which the arguments come in.
const ARGUMENTS: u8 = 0;

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

/// The registers' numbers; the function is changed where values are kept in memory.
pub fn allocate(f: &mut Function) -> Result<Vec<u8>, String> {
    // Each round keeps one more value in memory.
    for _ in 0..400 {
        let ranges = ranges(&f.insts, f.regs.len());
        match assign(f, &ranges) {
            Ok(numbers) => return Ok(numbers),
            Err(victim) => spill::spill(f, victim?),
        }
    }
    Err("the register allocation does not end".into())
}

type Victim = Result<VReg, String>;

fn assign(f: &Function, ranges: &[Ranges]) -> Result<Vec<u8>, Victim> {
    let mut order: Vec<VReg> =
        (0..f.regs.len() as VReg).filter(|&r| !ranges[r as usize].is_empty()).collect();
    order.sort_by_key(|&r| ranges[r as usize][0].0);
    let partners = partners(f);
    let arguments = f.insts.iter().find(|i| i.kind == Kind::Arguments).map(|i| i.fields[0].reg);
    let mut busy = [vec![Busy::default(); 32], vec![Busy::default(); 32]];
    let mut numbers = vec![u8::MAX; f.regs.len()];
    for &r in &order {
        let class = f.regs[r as usize].class;
        let live = &ranges[r as usize];
        let wanted = partners[r as usize].iter().map(|&p| numbers[p as usize]).filter(|&n| n != u8::MAX);
        let first = (Some(r) == arguments).then_some(ARGUMENTS);
        let all = if class == Class::Vector { VECTORS } else { GENERAL };
        let choice = first.into_iter().chain(wanted).chain(all.iter().copied());
        let Some(number) = choice.into_iter().find(|&n| busy[class as usize][n as usize].free(live)) else {
            return Err(victim(f, ranges, r));
        };
        busy[class as usize][number as usize].take(live);
        numbers[r as usize] = number;
    }
    Ok(numbers)
}

/// Registers that copies would like to be one.
fn partners(f: &Function) -> Vec<Vec<VReg>> {
    let mut partners = vec![Vec::new(); f.regs.len()];
    for inst in f.insts.iter().filter(|i| i.kind == Kind::Move) {
        let (a, b) = (inst.fields[0].reg, inst.fields[1].reg);
        partners[a as usize].push(b);
        partners[b as usize].push(a);
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
    // A register is the more worth the longer it is free.
    let length = |v: VReg| f64::from(ranges[v as usize].iter().map(|r| r.1 - r.0).sum::<u32>());
    let cost = |v: VReg| costs[v as usize] / length(v);
    let cheapest = (0..f.regs.len() as VReg).filter(alive).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
    cheapest.ok_or_else(|| format!("more {class:?} registers are needed at once than there are"))
}

/// What keeping each value in memory costs: its loads and stores, each ten times per loop around. A
/// constant is made again once in each straight run that needs it.
fn costs(f: &Function) -> Vec<f64> {
    let mut costs = vec![0.0; f.regs.len()];
    let mut run = 0u32;
    let mut made = vec![u32::MAX; f.regs.len()];
    for inst in &f.insts {
        if inst.label().is_some() || inst.jump().is_some() {
            run += 1;
        }
        let often = 10f64.powi(inst.depth as i32);
        inst.visit(|r, read, written| {
            let constant = f.regs[r as usize].again != Again::No;
            let again = read && std::mem::replace(&mut made[r as usize], run) != run;
            costs[r as usize] += often
                * match constant {
                    true => f64::from(u8::from(again)),
                    false => f64::from(u8::from(read) + u8::from(written)),
                };
        });
    }
    costs
}
