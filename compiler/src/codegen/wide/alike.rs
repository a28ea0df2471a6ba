//! Kernels that differ in numbers alone are one function, which reads them.
//!
//! Layers of one kind have the same tile and differ in how often their loops run, how far pointers move, and how
//! far apart rows lie. Where instructions are equal but for such numbers, the function takes one parameter more,
//! a table of the numbers that differ:
//! ```text
//! mov ecx, 16                         mov rcx, [numbers]
//! add rax, 384                        add rax, [numbers + 8]
//! vpbroadcastd zmm1, [rax + 48]       mov rdx, rax;  add rdx, [numbers + 16];  vpbroadcastd zmm1, [rdx]
//! ```
//! A place that differs is reached from a pointer's copy that walks from one access to the next, or, for the
//! distances that are needed most, through an index register. Kernels between which copies would walk as often as
//! they multiply (a first layer that reads channels, where others read points) have functions apart.

use super::inst::{Again, Arg, Base, Class, Function, Inst, Mem, VReg};
use super::rows::Op;
use super::{Isa, finish, select};
use crate::base::{Affine, Bound};
use crate::codegen::Code;
use crate::codegen::flatten::flatten;
use crate::codegen::live::Instruction as _;
use crate::tile::{Kernel, LoopVar, Stmt};
use std::collections::HashMap;

/// General registers that a function has for itself where its stack is aligned.
const REGISTERS: usize = 14;
/// Loops around what kernels do that are compared: one that is missing is a loop of one iteration.
const LOOPS: usize = 4;
/// Distances in registers at most.
const STEPS: usize = 3;

/// Multiply-adds for each move of a copy at least: one unit may do both (measured on Golden Cove: three moves beside
/// 24 multiply-adds of 256 bits are 4 % of the time, seven beside 48 are 10 %).
const BESIDE: f64 = 16.0;

/// A function for several kernels.
pub struct Shared {
    /// The function. It reads a table of 64-bit numbers behind the pointers to its parameters.
    pub code: Code,
    /// The kernels, and each one's numbers.
    pub members: Vec<(usize, Vec<i64>)>,
}

/// Kernels whose instructions are equal but for numbers.
struct Alike {
    /// The instructions of the first kernel.
    first: Function,
    isa: Isa,
    /// The kernels, and the numbers of each in the order of their places.
    members: Vec<(usize, Vec<i64>)>,
    /// Parameters of each.
    params: usize,
}

/// The functions that take the place of several kernels' own, of which `own` is the code.
pub fn share(kernels: &[Kernel], own: &[Code], isa: Isa) -> Vec<Shared> {
    let kernels: Vec<Kernel> = kernels.iter().map(flatten).collect();
    let mut classes: Vec<(Function, Vec<usize>)> = Vec::new();
    for (i, kernel) in kernels.iter().enumerate() {
        let Some((_, plain, _)) = numbered(kernel, LOOPS, isa) else { continue };
        let params = kernel.params.len();
        let same = |c: &&mut (Function, Vec<usize>)| c.0 == plain && kernels[c.1[0]].params.len() == params;
        match classes.iter_mut().find(same) {
            Some(class) => class.1.push(i),
            None => classes.push((plain, vec![i])),
        }
    }
    let parts = classes.into_iter().flat_map(|(_, members)| in_step(&kernels, members, isa));
    let several = parts.filter(|members| members.len() > 1);
    several.filter_map(|members| Alike::of(&kernels, &members, isa)?.shared(own)).collect()
}

/// The members of a class in parts, each one's function of which moves few copies of pointers beside what it multiplies.
/// At 512 bits moves take no time that could be measured: there all members stay together.
fn in_step(kernels: &[Kernel], members: Vec<usize>, isa: Isa) -> Vec<Vec<usize>> {
    let busy = |members: &[usize]| {
        let Some(alike) = Alike::of(kernels, members, isa) else { return false };
        let places = alike.places();
        alike.walk(&places).is_busy()
    };
    if isa.masks || members.len() < 2 || !busy(&members) {
        return vec![members];
    }
    let (mut parts, mut rest) = (Vec::new(), members);
    while let [first, others @ ..] = rest.as_slice() {
        let (mut part, mut apart) = (vec![*first], Vec::new());
        others.iter().for_each(|&k| if busy(&[*first, k]) { apart.push(k) } else { part.push(k) });
        parts.push(part);
        rest = apart;
    }
    parts
}

/// A kernel's instructions inside so many loops, the same with all numbers zero, and the numbers.
fn numbered(kernel: &Kernel, loops: usize, isa: Isa) -> Option<(Function, Function, Vec<i64>)> {
    let first = select(&within(kernel, loops), isa, true).ok()?;
    let (mut plain, mut numbers) = (first.clone(), Vec::new());
    visit(&mut plain, &mut |n| numbers.push(std::mem::take(n)));
    Some((first, plain, numbers))
}

/// The loops around all that a kernel does, each directly in the next.
fn nested(mut body: &[Stmt]) -> usize {
    let mut loops = 0;
    while let [Stmt::For { body: inside, .. }] = body {
        (loops, body) = (loops + 1, inside);
    }
    loops
}

/// The kernel in loops of one iteration, so that at least so many are around all that it does.
fn within(kernel: &Kernel, loops: usize) -> Kernel {
    let mut kernel = kernel.clone();
    for _ in nested(&kernel.body)..loops {
        let var = kernel.vars.len() as LoopVar;
        kernel.vars.push("once".into());
        let bound = |at| Bound(vec![Affine::constant(at)]);
        let body = std::mem::take(&mut kernel.body);
        kernel.body = vec![Stmt::For { var, lo: bound(0), hi: bound(1), step: 1, body }];
    }
    kernel
}

/// Calls `see` with every number in which functions may differ: those of the instructions, then those of the loads
/// that could be repeated.
fn visit(f: &mut Function, see: &mut impl FnMut(&mut i64)) {
    f.insts.iter_mut().for_each(|inst| visit_inst(inst, see));
    for reg in &mut f.regs {
        if let Again::Load(load) = &mut reg.again {
            visit_inst(load, see);
        }
    }
}

fn visit_inst(inst: &mut Inst, see: &mut impl FnMut(&mut i64)) {
    let counts = matches!(inst.op, Op::MovImm | Op::AddImm | Op::CmpImm);
    for arg in &mut inst.args {
        match arg {
            Arg::Imm(number) if counts => see(number),
            Arg::Mem(Mem { base: Base::Reg(_), disp, .. }) => see(disp),
            _ => {}
        }
    }
}

impl Alike {
    /// Kernels that are alike inside loops, in as few loops as they need.
    fn of(kernels: &[Kernel], members: &[usize], isa: Isa) -> Option<Alike> {
        let loops = members.iter().map(|&k| nested(&kernels[k].body)).max()?;
        let all = members.iter().map(|&k| numbered(&kernels[k], loops, isa)).collect::<Option<Vec<_>>>()?;
        let (first, plain) = (all[0].0.clone(), &all[0].1);
        if all.iter().any(|(_, other, _)| other != plain) {
            return None;
        }
        let params = kernels[members[0]].params.len();
        let numbers = all.iter().map(|(_, _, numbers)| numbers.clone());
        Some(Alike { members: members.iter().copied().zip(numbers).collect(), first, isa, params })
    }

    /// The numbers at each place.
    fn places(&self) -> Vec<Numbers> {
        let of = |place: usize| self.members.iter().map(|m| m.1[place]).collect();
        (0..self.members[0].1.len()).map(of).collect()
    }

    /// One function for all, with the distances in registers that save the most moves.
    fn walk<'a>(&self, places: &'a [Numbers]) -> Walk<'a> {
        let mut best = Walk::run(&self.first, places, self.params, &[]);
        let mut steps: Vec<Numbers> = Vec::new();
        // Where registers are few, pointers of the outer loops give way.
        for _ in 0..STEPS {
            let wanted = best.wanted.clone();
            let with = |step: &Numbers| {
                let steps = [steps.clone(), vec![step.clone()]].concat();
                (Walk::run(&self.first, places, self.params, &steps), steps)
            };
            let found = wanted.iter().map(with).min_by(|a, b| a.0.moves.total_cmp(&b.0.moves));
            let Some((walk, with)) = found.filter(|(walk, _)| walk.moves < best.moves) else { break };
            (best, steps) = (walk, with);
        }
        best
    }

    /// One function for all, where that is less than their own, and keeps no more vectors in memory.
    fn shared(self, own: &[Code]) -> Option<Shared> {
        let codes = || self.members.iter().map(|(kernel, _)| &own[*kernel]);
        let (separate, stack) = (codes().map(|c| c.bytes.len()).sum(), codes().map(|c| c.stack).max());
        let places = self.places();
        let Walk { f, slots, .. } = self.walk(&places);
        let code = finish(f, self.isa).ok()?;
        let tables = 8 * slots.len() * self.members.len();
        if code.bytes.len() + tables >= separate || code.stack > stack? + REGISTERS * 8 {
            return None;
        }
        let column = |m: usize| slots.iter().map(|s| s[m]).collect();
        let members = self.members.iter().enumerate().map(|(m, (kernel, _))| (*kernel, column(m))).collect();
        Some(Shared { code, members })
    }
}

/// One number per kernel.
type Numbers = Vec<i64>;

/// A function that reads the numbers that differ.
struct Walk<'a> {
    f: Function,
    /// The register of the table.
    table: VReg,
    /// The numbers in the table.
    slots: Vec<Numbers>,
    /// Distances in registers.
    steps: Vec<(Numbers, VReg)>,
    /// The copies of pointers in this run of instructions, and their distances from them.
    copies: HashMap<VReg, (VReg, Numbers)>,
    /// How often copies move.
    moves: f64,
    /// The distances that they move by.
    wanted: Vec<Numbers>,
    places: std::slice::Iter<'a, Numbers>,
}

/// How often something runs, as it seems from how many loops are around it.
fn often(depth: u32) -> f64 {
    10f64.powi(depth as i32)
}

fn differ(numbers: &[i64]) -> bool {
    numbers.iter().any(|n| *n != numbers[0])
}

impl<'a> Walk<'a> {
    fn run(first: &Function, places: &'a [Numbers], table: usize, steps: &[Numbers]) -> Self {
        let mut f = first.clone();
        let insts = std::mem::take(&mut f.insts);
        let register = f.reg(Class::General);
        let places = places.iter();
        let (copies, slots) = (HashMap::new(), Vec::new());
        let mut walk = Walk {
            f,
            table: register,
            slots,
            steps: Vec::new(),
            copies,
            moves: 0.0,
            wanted: Vec::new(),
            places,
        };
        for inst in insts {
            let arguments = (inst.op == Op::Arguments).then(|| inst.args.clone());
            walk.inst(inst);
            if let Some([Arg::Reg(args)]) = arguments.as_deref() {
                let at = Mem::at(Base::Reg(*args)).offset(8 * table as i64);
                walk.push(Op::Mov, &[register.into(), at.into()], 0);
                for step in steps {
                    let reg = walk.f.reg(Class::General);
                    let number = walk.slot(step);
                    walk.push(Op::Mov, &[reg.into(), number.into()], 0);
                    walk.steps.push((step.clone(), reg));
                }
            }
        }
        walk.forget();
        walk
    }

    /// Forgets that loads could be repeated whose place differs.
    fn forget(&mut self) {
        for reg in &mut self.f.regs {
            let Again::Load(load) = &mut reg.again else { continue };
            let mut differs = false;
            visit_inst(load, &mut |_| differs |= self.places.next().is_some_and(|p| differ(p)));
            if differs {
                reg.again = Again::No;
            }
        }
    }

    /// Whether copies of pointers move so often beside multiply-adds that several functions are worth their bytes.
    /// Where vectors are loaded as often as they are multiplied, moves cost nothing.
    fn is_busy(&self) -> bool {
        let count = |counts: &dyn Fn(&Inst) -> bool| -> f64 {
            self.f.insts.iter().filter(|inst| counts(inst)).map(|inst| often(inst.depth)).sum()
        };
        let multiplies = count(&|inst| matches!(inst.op, Op::Fma16 | Op::Fma32));
        let general = |op: Op| matches!(op, Op::Mov | Op::Add | Op::Cmp);
        let loads =
            count(&|inst| !general(inst.op) && inst.args.iter().any(|arg| matches!(arg, Arg::Mem(_))));
        loads < multiplies && self.moves * BESIDE > multiplies
    }

    fn push(&mut self, op: Op, args: &[Arg], depth: u32) {
        self.f.insts.push(Inst { op, width: 16, args: args.to_vec(), mask: None, merge: false, depth });
    }

    /// Where a number is.
    fn slot(&mut self, numbers: &Numbers) -> Mem {
        let known = self.slots.iter().position(|s| s == numbers);
        let at = known.unwrap_or_else(|| {
            self.slots.push(numbers.clone());
            self.slots.len() - 1
        });
        Mem::at(Base::Reg(self.table)).offset(8 * at as i64)
    }

    fn inst(&mut self, mut inst: Inst) {
        if inst.is_control() {
            self.copies.clear();
        }
        for i in 0..inst.args.len() {
            match inst.args[i] {
                Arg::Imm(_) if matches!(inst.op, Op::MovImm | Op::AddImm | Op::CmpImm) => {
                    let Some(numbers) = self.places.next() else { return };
                    if differ(numbers) {
                        inst.op = match inst.op {
                            Op::MovImm => Op::Mov,
                            Op::AddImm => Op::Add,
                            _ => Op::Cmp,
                        };
                        inst.args[i] = self.slot(numbers).into();
                    } else if inst.op == Op::AddImm && numbers[0] == 0 {
                        return;
                    }
                }
                Arg::Mem(mem) => {
                    if let Base::Reg(base) = mem.base {
                        let Some(numbers) = self.places.next() else { return };
                        if differ(numbers) {
                            inst.args[i] = self.place(mem, base, numbers, inst.depth).into();
                        }
                    }
                }
                _ => {}
            }
        }
        let mut written = Vec::new();
        inst.visit(|r, _, writes| written.extend(writes.then_some(r)));
        written.iter().for_each(|r| _ = self.copies.remove(r));
        self.f.insts.push(inst);
    }

    /// The place `numbers` bytes from a pointer.
    fn place(&mut self, mem: Mem, base: VReg, numbers: &Numbers, depth: u32) -> Mem {
        let here = vec![0; numbers.len()];
        if let Some(mem) = self.reached(mem, base, &here, numbers) {
            return mem;
        }
        let (copy, at) = match self.copies.get(&base) {
            Some((copy, at)) => (*copy, at.clone()),
            None => {
                let copy = self.f.reg(Class::General);
                self.push(Op::Mov, &[copy.into(), base.into()], depth);
                (copy, here)
            }
        };
        if let Some(mem) = self.reached(mem, copy, &at, numbers) {
            return mem;
        }
        let by: Numbers = numbers.iter().zip(&at).map(|(to, from)| to - from).collect();
        self.moves += often(depth);
        if !self.wanted.contains(&by) {
            self.wanted.push(by.clone());
        }
        let number = self.slot(&by);
        self.push(Op::Add, &[copy.into(), number.into()], depth);
        self.copies.insert(base, (copy, numbers.clone()));
        Mem { base: Base::Reg(copy), disp: 0, ..mem }
    }

    /// A place by what registers there are: `register` is `at` bytes from the pointer.
    fn reached(&self, mem: Mem, register: VReg, at: &Numbers, to: &Numbers) -> Option<Mem> {
        let by: Numbers = to.iter().zip(at).map(|(to, from)| to - from).collect();
        let mem = Mem { base: Base::Reg(register), ..mem };
        if !differ(&by) {
            return Some(Mem { disp: by[0], ..mem });
        }
        if mem.index.is_some() {
            return None;
        }
        let steps = self.steps.iter().flat_map(|(step, reg)| [1, 2, 4, 8].map(|scale| (step, *reg, scale)));
        steps.into_iter().find_map(|(step, reg, scale)| {
            let rest: Numbers = by.iter().zip(step).map(|(b, s)| b - s * i64::from(scale)).collect();
            (!differ(&rest)).then(|| Mem { index: Some((reg, scale)), disp: rest[0], ..mem })
        })
    }
}
