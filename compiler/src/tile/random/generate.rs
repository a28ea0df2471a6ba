//! Makes one random kernel, valid by construction: operands come from a pool of assigned registers,
//! addresses get the base, and parameters the size, that the range of the index asks for.

mod operands;

use super::{Rng, Vocabulary};
use crate::base::{Affine, Bound, DType};
use crate::scalar::Fold;
use crate::tile::{
    Access, Bin, Cmp, Convert, Dot, Kernel, Lane, Param, Reg, RegType, Signs, Stmt, TABLE, Un, Value, lanes,
};

/// The kernel of a seed.
pub fn kernel(seed: u64, words: &Vocabulary) -> Kernel {
    let mut rng = Rng(seed);
    let kernel = Kernel {
        name: format!("random{seed}"),
        params: Vec::new(),
        vars: Vec::new(),
        regs: Vec::new(),
        fused: words.half_lanes || rng.chance(50),
        body: Vec::new(),
    };
    let mut g = Generator { words, rng, kernel, pool: Vec::new(), loops: Vec::new(), in_loop: false };
    g.params();
    let mut body = Vec::new();
    let count = g.rng.between(6, 14);
    g.statements(&mut body, count, 0);
    for held in g.pool.clone() {
        if held.ty.lane.dtype().is_some() && g.rng.chance(50) {
            g.store(&mut body, held);
        }
    }
    g.kernel.body = body;
    g.kernel
}

/// An assigned register.
#[derive(Clone, Copy)]
struct Held {
    reg: Reg,
    ty: RegType,
    /// Never assigned again and no result of arithmetic: a NaN has the same bits everywhere.
    exact: bool,
    /// No result of a multiplication: products of two such values stay finite.
    small: bool,
}

struct Around {
    var: u32,
    lo: Bound,
    hi: Bound,
    step: i64,
}

struct Generator<'a> {
    words: &'a Vocabulary<'a>,
    rng: Rng,
    kernel: Kernel,
    pool: Vec<Held>,
    loops: Vec<Around>,
    /// Inside a `Loop`.
    in_loop: bool,
}

const UNS: [Un; 8] = [Un::Neg, Un::Abs, Un::Sqrt, Un::Floor, Un::Ceil, Un::Trunc, Un::Round, Un::Not];
const BINS: [Bin; 28] = [
    Bin::Add,
    Bin::Sub,
    Bin::Mul,
    Bin::Div,
    Bin::DivS,
    Bin::DivU,
    Bin::RemS,
    Bin::RemU,
    Bin::Min,
    Bin::Max,
    Bin::MinNan,
    Bin::MaxNan,
    Bin::MinU,
    Bin::MaxU,
    Bin::And,
    Bin::Or,
    Bin::Xor,
    Bin::Shl,
    Bin::ShrS,
    Bin::ShrU,
    Bin::MulHigh,
    Bin::ShrRound,
    Bin::AddCouples,
    Bin::SubCouples,
    Bin::MinBytes,
    Bin::MaxBytes,
    Bin::MinBytesU,
    Bin::MaxBytesU,
];
const CMPS: [Cmp; 8] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge, Cmp::LtU, Cmp::LeU];
const CONVERTS: [Convert; 10] = [
    Convert::FloatToInt,
    Convert::FloatToUint,
    Convert::IntToFloat,
    Convert::UintToFloat,
    Convert::Float,
    Convert::RoundF16,
    Convert::RoundBf16,
    Convert::Int,
    Convert::Zext,
    Convert::Bits,
];
const FOLDS: [Fold; 6] = [Fold::Sum, Fold::Prod, Fold::Max, Fold::Min, Fold::And, Fold::Or];

impl Generator<'_> {
    /// One parameter to read and one to write for each kind of lane, and some more.
    fn params(&mut self) {
        for lane in [Lane::F32, Lane::I32, Lane::F64, Lane::I64, Lane::F16] {
            let fits: Vec<DType> = self.words.dtypes.iter().copied().filter(|d| lane.holds(*d)).collect();
            if fits.is_empty() || lane == Lane::F16 && !self.words.half_lanes {
                continue;
            }
            for (letter, access) in [("x", Access::Read), ("y", Access::Write), ("z", Access::ReadWrite)] {
                for _ in 0..self.rng.pick(if letter == "z" { &[0, 0, 1] } else { &[1, 1, 2] }) {
                    let dtype = self.rng.pick(&fits);
                    let name = format!("{letter}{}", self.kernel.params.len());
                    self.kernel.params.push(Param { name, dtype, elems: 1, access });
                }
            }
        }
    }

    fn lane(&mut self) -> Lane {
        if self.words.wide_lanes && self.rng.chance(50) {
            return self.rng.pick(&[Lane::F64, Lane::I64]);
        }
        if self.words.half_lanes && self.rng.chance(30) {
            return Lane::F16;
        }
        self.rng.pick(&[Lane::F32, Lane::I32])
    }

    /// Mostly full or single lanes, otherwise the partial vectors of edges.
    fn ty(&mut self) -> RegType {
        let lanes = match self.rng.below(10) {
            0..5 => self.words.lanes,
            5..7 => 1,
            _ => 1 + self.rng.below(usize::from(self.words.lanes)) as u8,
        };
        RegType { lane: self.lane(), lanes }
    }

    fn statements(&mut self, body: &mut Vec<Stmt>, count: i64, depth: usize) {
        for _ in 0..count {
            match self.rng.below(100) {
                0..12 if depth < 3 => self.for_loop(body, depth),
                12..17 if depth < 3 && self.words.control => self.branch(body, depth),
                17..22 if depth < 2 && self.words.control => self.endless_loop(body, depth),
                22..25 if self.words.control && self.rng.chance(20) => {
                    let cond = self.condition(body);
                    let code = self.rng.between(1, 9) as i32;
                    body.push(Stmt::Fail { cond, code });
                }
                25..27 if self.in_loop => {
                    let cond = self.condition(body);
                    body.push(Stmt::Break { cond });
                }
                27..40 => {
                    let ty = self.ty();
                    let held = self.operand(body, ty);
                    self.store(body, held);
                }
                _ => self.operation(body),
            }
        }
    }

    /// A body whose registers are forgotten behind it.
    fn block(&mut self, count: i64, depth: usize) -> Vec<Stmt> {
        let known = self.pool.len();
        let mut body = Vec::new();
        self.statements(&mut body, count, depth + 1);
        for i in known..self.pool.len() {
            if self.rng.chance(40) {
                self.store(&mut body, self.pool[i]);
            }
        }
        self.pool.truncate(known);
        body
    }

    fn for_loop(&mut self, body: &mut Vec<Stmt>, depth: usize) {
        let var = self.kernel.vars.len() as u32;
        self.kernel.vars.push(format!("i{var}"));
        let lo = self.rng.between(0, 3);
        let extent = if self.rng.chance(6) { 0 } else { self.rng.between(1, 9) };
        let (mut lo, mut hi) = (Bound::constant(lo), Bound::constant(lo + extent));
        if let Some(outer) = self.loops.last().filter(|_| self.rng.chance(35)) {
            let outer = Affine::var(outer.var);
            lo.0.push(outer.offset(-1));
            hi.0.push(outer.offset(4));
            if self.rng.chance(30) {
                lo.0.remove(0);
                hi.0.remove(0);
            }
        }
        let step = if self.rng.chance(60) { 1 } else { self.rng.between(2, 5) };
        self.loops.push(Around { var, lo: lo.clone(), hi: hi.clone(), step });
        let count = self.rng.between(2, 7);
        let inner = self.block(count, depth);
        self.loops.pop();
        body.push(Stmt::For { var, lo, hi, step, body: inner });
    }

    fn branch(&mut self, body: &mut Vec<Stmt>, depth: usize) {
        let cond = self.condition(body);
        let count = self.rng.between(1, 4);
        let then = self.block(count, depth);
        let otherwise = if self.rng.chance(60) { self.block(count, depth) } else { Vec::new() };
        body.push(Stmt::If { cond, then, otherwise });
    }

    /// A loop that a counter ends after a few rounds.
    fn endless_loop(&mut self, body: &mut Vec<Stmt>, depth: usize) {
        let ty = RegType { lane: Lane::I64, lanes: 1 };
        let fixed = |g: &mut Self, body: &mut Vec<Stmt>, value| {
            let reg = g.new_reg(ty);
            body.push(Stmt::Let(reg, Value::Const(value)));
            reg
        };
        let rounds = self.rng.between(1, 6) as u64;
        let (count, one, end) = (fixed(self, body, 0), fixed(self, body, 1), fixed(self, body, rounds));
        let done = self.new_reg(RegType { lane: Lane::M64, lanes: 1 });
        let before = std::mem::replace(&mut self.in_loop, true);
        let length = self.rng.between(1, 4);
        let mut inner = self.block(length, depth);
        inner.push(Stmt::Let(count, Value::Bin(Bin::Add, count, one)));
        inner.push(Stmt::Let(done, Value::Cmp(Cmp::Ge, count, end)));
        inner.push(Stmt::Break { cond: done });
        inner.extend(self.block(length, depth));
        self.in_loop = before;
        body.push(Stmt::Loop { body: inner });
    }

    fn condition(&mut self, body: &mut Vec<Stmt>) -> Reg {
        let lane = Some(self.lane()).filter(|&lane| lane != Lane::F16).unwrap_or(Lane::F32);
        self.mask(body, RegType { lane, lanes: 1 })
    }

    /// A truth value beside registers of a type.
    fn mask(&mut self, body: &mut Vec<Stmt>, beside: RegType) -> Reg {
        let (a, b) = (self.operand(body, beside), self.operand(body, beside));
        let op = self.rng.pick(&CMPS);
        let op = if lanes::cmp(op, beside.lane).is_some() { op } else { Cmp::Lt };
        let ty = RegType { lane: beside.lane.mask(), ..beside };
        let reg = self.new_reg(ty);
        let value = Value::Cmp(op, a.reg, b.reg);
        let value = if (self.words.accept)(ty, &value) { value } else { Value::Const(1) };
        body.push(Stmt::Let(reg, value));
        self.pool.push(Held { reg, ty, exact: true, small: true });
        reg
    }

    fn new_reg(&mut self, ty: RegType) -> Reg {
        self.kernel.regs.push(ty);
        (self.kernel.regs.len() - 1) as Reg
    }

    /// Assigns a value, where it is accepted, to a new register or one of the pool.
    fn assign(&mut self, body: &mut Vec<Stmt>, ty: RegType, value: Value, exact: bool, small: bool) -> bool {
        if !(self.words.accept)(ty, &value) && !matches!(value, Value::Const(_)) {
            return false;
        }
        let again: Vec<usize> =
            (0..self.pool.len()).filter(|&i| self.pool[i].ty == ty && !self.pool[i].exact).collect();
        let (reg, exact, small) = match again.is_empty() || self.rng.chance(50) {
            true => (self.new_reg(ty), exact, small),
            // In a loop the register may come round with what is assigned later in its body.
            false => (self.pool[self.rng.pick(&again)].reg, false, false),
        };
        body.push(Stmt::Let(reg, value));
        match self.pool.iter_mut().find(|h| h.reg == reg) {
            Some(held) => (held.exact, held.small) = (exact, small),
            None => self.pool.push(Held { reg, ty, exact, small }),
        }
        true
    }

    fn operation(&mut self, body: &mut Vec<Stmt>) {
        let ty = self.ty();
        let float = matches!(ty.lane, Lane::F16 | Lane::F32 | Lane::F64);
        match self.rng.below(10) {
            0 if ty.lane == Lane::I32 && self.rng.chance(50) => self.lookup(body, ty),
            0 => {
                let op = self.rng.pick(&UNS);
                let a = self.operand(body, ty);
                if lanes::un(op, ty.lane).is_some() {
                    self.assign(body, ty, Value::Un(op, a.reg), false, a.small);
                }
            }
            1..4 => {
                let op = self.rng.pick(&BINS);
                let (a, b) = (self.operand(body, ty), self.small_operand(body, ty));
                let a = if op == Bin::Mul { self.small_operand(body, ty) } else { a };
                if lanes::bin(op, ty.lane).is_some() {
                    self.assign(body, ty, Value::Bin(op, a.reg, b.reg), false, false);
                }
            }
            4..6 => {
                let (a, b) = (self.small_operand(body, ty), self.small_operand(body, ty));
                let c = self.operand(body, ty);
                self.assign(body, ty, Value::Mla(c.reg, a.reg, b.reg), false, false);
            }
            6 if ty.lane == Lane::I32 => {
                let [c, a, b] = [0; 3].map(|_| self.operand(body, ty).reg);
                let kinds = [Dot::Us, Dot::Ss, Dot::Uu, Dot::Couples, Dot::Pairs].into_iter();
                let squares = [Signs::Us, Signs::Ss, Signs::Uu].map(Dot::Squares);
                let squares = squares.into_iter().filter(|_| ty.lanes.is_multiple_of(4));
                let halves = [Dot::CoupleHalves, Dot::HalfPairs].into_iter();
                let halves = halves.filter(|_| ty.lanes.is_multiple_of(8));
                let kind = self.rng.pick(&kinds.chain(squares).chain(halves).collect::<Vec<_>>());
                self.assign(body, ty, Value::Dot(kind, c, a, b), false, false);
            }
            6 | 7 if ty.lane == Lane::F16 => {}
            6 | 7 => {
                let mask = self.mask(body, ty);
                let (a, b) = (self.operand(body, ty), self.operand(body, ty));
                let exact = a.exact && b.exact;
                self.assign(body, ty, Value::Select(mask, a.reg, b.reg), exact, a.small && b.small);
            }
            8 => self.conversion(body, ty),
            _ => self.across(body, ty, float),
        }
    }

    /// An entry of a table, which is stored at once in half of all cases: encoders join the two.
    fn lookup(&mut self, body: &mut Vec<Stmt>, ty: RegType) {
        let bytes = |p: &Param| p.dtype.size() == 1 && p.access != Access::Write;
        let params: Vec<usize> =
            (0..self.kernel.params.len()).filter(|&i| bytes(&self.kernel.params[i])).collect();
        if params.is_empty() {
            return;
        }
        let param = self.rng.pick(&params);
        let table = self.place(body, param, 1, 0, TABLE as i64);
        let a = self.operand(body, ty);
        if self.assign(body, ty, Value::Lookup(table, a.reg), false, false) && self.rng.chance(50) {
            if let Some(&Stmt::Let(reg, _)) = body.last() {
                self.store(body, Held { reg, ty, exact: false, small: false });
            }
        }
    }

    fn conversion(&mut self, body: &mut Vec<Stmt>, from: RegType) {
        let a = self.operand(body, from);
        if matches!(from.lane, Lane::I32 | Lane::I64) && self.rng.chance(40) {
            let bits = self.rng.between(1, 32) as u8;
            let kind = if self.rng.chance(50) { Convert::SextLow(bits) } else { Convert::ZextLow(bits) };
            self.assign(body, from, Value::Convert(kind, a.reg), true, true);
            return;
        }
        let kind = self.rng.pick(&CONVERTS);
        let to = self.lane();
        let leaks = kind == Convert::Bits && matches!(from.lane, Lane::F32 | Lane::F64) && !a.exact;
        if lanes::convert(kind, from.lane, to, 0).is_some() && !leaks {
            let ty = RegType { lane: to, ..from };
            let small = kind != Convert::Bits && a.small;
            self.assign(body, ty, Value::Convert(kind, a.reg), kind == Convert::Bits, small);
        }
    }

    fn across(&mut self, body: &mut Vec<Stmt>, ty: RegType, float: bool) {
        let scalar = RegType { lanes: 1, ..ty };
        match self.rng.below(4) {
            0 if matches!(ty.lane, Lane::I32 | Lane::F32) && ty.lanes.is_multiple_of(2) => {
                let from: Vec<Held> = (0..ty.lanes / 2).map(|_| self.operand(body, ty)).collect();
                let pair = |a: &Held| (a.reg, 2 * self.rng.below(usize::from(ty.lanes / 2)) as u8);
                let pairs = from.iter().map(pair).collect();
                let all = |f: fn(&Held) -> bool| from.iter().all(f);
                self.assign(body, ty, Value::Pairs(pairs), all(|a| a.exact), all(|a| a.small));
            }
            0 | 1 => {
                let a = self.operand(body, scalar);
                self.assign(body, ty, Value::Splat(a.reg), a.exact, a.small);
            }
            2 => {
                let from = RegType { lanes: self.words.lanes, ..ty };
                let a = self.operand(body, from);
                let lane = self.rng.below(usize::from(from.lanes)) as u8;
                self.assign(body, ty, Value::Broadcast(a.reg, lane), a.exact, a.small);
            }
            _ => {
                let fold = self.rng.pick(&FOLDS[..if float { 4 } else { 6 }]);
                let a = self.small_operand(body, ty);
                self.assign(body, scalar, Value::Reduce(fold, a.reg), false, false);
            }
        }
    }
}
