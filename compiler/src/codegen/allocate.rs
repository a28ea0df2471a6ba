//! Virtual registers to registers.
//!
//! Registers are given in the order in which values begin, the first that is free wherever the value
//! lives (`live`), a copy's partner preferred. Where none is free, the value whose loads and stores cost
//! least for what its register is worth, among those alive there, gives way; those that did are kept in
//! memory, and all is done again.

use super::live::{Class, Instruction, Ranges, VReg, ranges};
use std::collections::BTreeMap;

/// Registers that an instruction would like to have consecutive numbers, the last of the file being followed by
/// the first.
pub struct Tuple {
    /// In their order.
    pub regs: Vec<VReg>,
    /// Whether it cannot do without.
    pub required: bool,
}

/// What is needed to know of a function to give its values registers, and how it is changed.
pub trait Registers {
    /// Its instructions.
    type Inst: Instruction + Clone;
    /// The instructions, in order.
    fn insts(&self) -> &[Self::Inst];
    /// The same, to be changed.
    fn insts_mut(&mut self) -> &mut Vec<Self::Inst>;
    /// The vector that an instruction computes of operands alone, which it leaves as they are, and of memory that
    /// the kernel only reads: it does so wherever these are what they are here.
    fn result(&self, inst: &Self::Inst) -> Option<VReg>;
    /// How many virtual registers there are.
    fn count(&self) -> usize;
    /// The file of one.
    fn class(&self, reg: VReg) -> Class;
    /// Whether it lives for one instruction, so that keeping it in memory would gain nothing.
    fn is_short(&self, reg: VReg) -> bool;
    /// The register that the function's argument comes in, and the number of that.
    fn argument(&self) -> Option<(VReg, u8)>;
    /// Two registers that an instruction would like to be one.
    fn partners(&self, inst: &Self::Inst) -> Option<(VReg, VReg)>;
    /// Lists of registers that belong together; of two with the same register the last counts.
    fn tuples(&self) -> Vec<Tuple> {
        Vec::new()
    }
    /// Registers that an instruction takes from the lower half of their file only.
    fn lower(&self) -> Vec<VReg> {
        Vec::new()
    }
    /// The numbers of a file, in the order of use.
    fn file(&self, class: Class) -> Vec<u8>;
    /// What keeping each register's value in memory costs, each place ten times per loop around.
    fn costs(&self) -> Vec<f64>;
    /// What it gains to keep each register's value in memory.
    fn gains(&self, ranges: &[Ranges]) -> Vec<f64> {
        relief(self, ranges)
    }
    /// Keeps a register's value in memory.
    fn spill(&mut self, reg: VReg);
}

/// The first number of the upper half of a file.
const UPPER: u8 = 16;

/// How often an instruction is executed, as far as its loops tell.
pub fn often(inst: &impl Instruction) -> f64 {
    10f64.powi(inst.depth() as i32)
}

/// Rounds of allocation before giving up.
const ROUNDS: usize = 1000;

/// The registers' numbers; the function is changed where values are kept in memory.
pub fn allocate(f: &mut impl Registers) -> Result<Vec<u8>, String> {
    let mut spilled = 0;
    for _ in 0..ROUNDS {
        let ranges = ranges(f.insts(), f.count());
        // Few at a time where few are, since each changes what is best for the next.
        let victims = match assign(f, &ranges, 1 + spilled / 8) {
            Ok(numbers) => return Ok(numbers),
            Err(victims) => victims?,
        };
        spilled += victims.len();
        victims.into_iter().for_each(|v| f.spill(v));
    }
    Err("the register allocation does not end".into())
}

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

/// The registers given so far.
struct Files<'a> {
    ranges: &'a [Ranges],
    busy: BTreeMap<(Class, u8), Busy>,
    numbers: Vec<u8>,
    /// Registers that only numbers of the lower half fit.
    lower: Vec<bool>,
}

impl Files<'_> {
    fn fits(&self, number: u8, r: VReg) -> bool {
        !self.lower[r as usize] || number < UPPER
    }

    fn is_free(&self, class: Class, number: u8, r: VReg) -> bool {
        self.fits(number, r)
            && self.busy.get(&(class, number)).is_none_or(|b| b.free(&self.ranges[r as usize]))
    }

    fn take(&mut self, class: Class, number: u8, r: VReg) {
        self.busy.entry((class, number)).or_default().take(&self.ranges[r as usize]);
        self.numbers[r as usize] = number;
    }

    /// Gives consecutive numbers to registers of which none has one, where there are such.
    fn take_tuple(&mut self, class: Class, tuple: &[VReg], file: &[u8]) {
        let free = |first: &&u8| {
            tuple.iter().enumerate().all(|(i, &r)| {
                let number = neighbour(**first, i);
                file.contains(&number) && self.is_free(class, number, r)
            })
        };
        if tuple.iter().any(|&r| self.numbers[r as usize] != u8::MAX) {
            return;
        }
        if let Some(&first) = file.iter().find(free) {
            tuple.iter().enumerate().for_each(|(i, &r)| self.take(class, neighbour(first, i), r));
        }
    }

    fn give(&mut self, class: Class, r: VReg) {
        let number = std::mem::replace(&mut self.numbers[r as usize], u8::MAX);
        if let Some(busy) = self.busy.get_mut(&(class, number)) {
            busy.give(&self.ranges[r as usize]);
        }
    }
}

/// The number some places after another one.
fn neighbour(first: u8, place: usize) -> u8 {
    (first + place as u8) % 32
}

type Victims = Result<Vec<VReg>, String>;

/// The numbers, or at most `limit` values to keep in memory.
fn assign(f: &impl Registers, ranges: &[Ranges], limit: usize) -> Result<Vec<u8>, Victims> {
    let mut order: Vec<VReg> = (0..f.count() as VReg).filter(|&r| !ranges[r as usize].is_empty()).collect();
    order.sort_by_key(|&r| ranges[r as usize][0].0);
    let partners = partners(f);
    let argument = f.argument();
    let mut file = [Class::Vector, Class::Mask, Class::General].map(|class| f.file(class));
    let mut lower = vec![false; f.count()];
    f.lower().into_iter().for_each(|r| lower[r as usize] = true);
    if lower.contains(&true) {
        // The lower half is left to those that need it.
        file[Class::Vector as usize].sort_by_key(|&number| number < UPPER);
    }
    let mut files = Files { ranges, busy: BTreeMap::new(), numbers: vec![u8::MAX; f.count()], lower };
    let mut victims = Vec::new();
    let mut prices = None;
    let tuples = f.tuples();
    let tuple: BTreeMap<VReg, usize> =
        tuples.iter().enumerate().flat_map(|(t, tuple)| tuple.regs.iter().map(move |&r| (r, t))).collect();
    for &r in &order {
        let class = f.class(r);
        if let Some(tuple) = tuple.get(&r).map(|&t| &tuples[t]) {
            files.take_tuple(class, &tuple.regs, &file[class as usize]);
            if tuple.required && files.numbers[r as usize] == u8::MAX {
                let prices = prices.get_or_insert_with(|| self::prices(f, ranges));
                let Some(way) = in_the_way(f, &files, prices, &tuple.regs, &file[class as usize]) else {
                    return Err(Err("consecutive registers are needed where there are none".into()));
                };
                way.iter().for_each(|&v| files.give(class, v));
                files.take_tuple(class, &tuple.regs, &file[class as usize]);
                victims.extend(way);
                if victims.len() >= limit {
                    return Err(Ok(victims));
                }
            }
        }
        let first = argument.filter(|a| a.0 == r).map(|a| a.1);
        let wanted = partners[r as usize].iter().map(|&p| files.numbers[p as usize]);
        let wanted: Vec<u8> = first.into_iter().chain(wanted.filter(|&n| n != u8::MAX)).collect();
        let all = || wanted.iter().chain(&file[class as usize]).copied();
        while files.numbers[r as usize] == u8::MAX && !victims.contains(&r) {
            if let Some(number) = all().find(|&n| files.is_free(class, n, r)) {
                files.take(class, number, r);
                continue;
            }
            let prices = prices.get_or_insert_with(|| self::prices(f, ranges));
            let Some(victim) = victim(f, &files, prices, r, &victims) else {
                let reason = format!("more {class:?} registers are needed at once than the target has");
                return Err(Err(reason));
            };
            files.give(class, victim);
            victims.push(victim);
            if victims.len() == limit {
                return Err(Ok(victims));
            }
        }
    }
    if victims.is_empty() { Ok(files.numbers) } else { Err(Ok(victims)) }
}

/// The registers that each would like to be one with.
fn partners(f: &impl Registers) -> Vec<Vec<VReg>> {
    let mut partners = vec![Vec::new(); f.count()];
    for (a, b) in f.insts().iter().filter_map(|inst| f.partners(inst)) {
        partners[a as usize].push(b);
        partners[b as usize].push(a);
    }
    partners
}

/// The cheapest value to keep in memory among those alive where `r` begins; not one of `gone`.
fn victim(f: &impl Registers, files: &Files, prices: &[f64], r: VReg, gone: &[VReg]) -> Option<VReg> {
    let ranges = files.ranges;
    let begin = ranges[r as usize][0].0;
    let alive = |&v: &VReg| {
        let here = v == r || ranges[v as usize].iter().any(|x| x.0 <= begin && begin < x.1);
        let of_use = v == r || files.fits(files.numbers[v as usize], r);
        f.class(v) == f.class(r) && of_use && !f.is_short(v) && here && !gone.contains(&v)
    };
    let length = |v: VReg| length(&ranges[v as usize]);
    (0..f.count() as VReg)
        .filter(alive)
        .min_by(|&a, &b| prices[a as usize].total_cmp(&prices[b as usize]).then(length(b).cmp(&length(a))))
}

/// The values that have consecutive numbers where a tuple lives, of the least price in all; `None` where some of
/// them would have to live as shortly without.
fn in_the_way(
    f: &impl Registers,
    files: &Files,
    prices: &[f64],
    tuple: &[VReg],
    file: &[u8],
) -> Option<Vec<VReg>> {
    let class = f.class(tuple[0]);
    let ranges = |r: VReg| &files.ranges[r as usize];
    let meet = |a: VReg, b: VReg| ranges(a).iter().any(|x| ranges(b).iter().any(|y| x.0 < y.1 && y.0 < x.1));
    let between = |&first: &u8| -> Option<Vec<VReg>> {
        let mut found = Vec::new();
        for (i, &r) in tuple.iter().enumerate() {
            let number = neighbour(first, i);
            let there = |&v: &VReg| files.numbers[v as usize] == number && f.class(v) == class && meet(v, r);
            found.extend((0..f.count() as VReg).filter(there));
            if !file.contains(&number) || found.iter().any(|&v| f.is_short(v)) {
                return None;
            }
        }
        Some(found)
    };
    let price = |list: &Vec<VReg>| list.iter().map(|&v| prices[v as usize]).sum::<f64>();
    file.iter().filter_map(between).min_by(|a, b| price(a).total_cmp(&price(b)))
}

/// What keeping each value in memory costs for what it gains: a constant that is read in one loop and
/// alive in all others costs more than what lives for two instructions, and is worth as many of those.
fn prices(f: &impl Registers, ranges: &[Ranges]) -> Vec<f64> {
    let gains = f.gains(ranges);
    f.costs().iter().zip(&gains).map(|(cost, gain)| cost / gain.max(1.0)).collect()
}

/// How long a value lives, in positions.
pub fn length(ranges: &Ranges) -> u32 {
    ranges.iter().map(|r| r.1 - r.0).sum()
}

/// How often each value is alive where more values are than there are registers.
fn relief<F: Registers + ?Sized>(f: &F, ranges: &[Ranges]) -> Vec<f64> {
    let mut relief = vec![0.0; f.count()];
    for class in [Class::Vector, Class::Mask, Class::General] {
        let registers = f.file(class).len() as i64;
        let of_class = || (0..f.count()).filter(|&r| f.class(r as VReg) == class);
        let mut changes = vec![0i64; 2 * f.insts().len() + 1];
        for &(start, end) in of_class().flat_map(|r| &ranges[r]) {
            changes[start as usize] += 1;
            changes[end as usize] -= 1;
        }
        let (mut alive, mut sums) = (0, vec![0.0]);
        for (at, change) in changes.iter().enumerate() {
            alive += change;
            let often = f.insts().get(at / 2).map_or(0.0, often);
            sums.push(sums[at] + if alive > registers { often } else { 0.0 });
        }
        for r in of_class() {
            relief[r] = ranges[r].iter().map(|&(start, end)| sums[end as usize] - sums[start as usize]).sum();
        }
    }
    relief
}
