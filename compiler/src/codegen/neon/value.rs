//! Values of registers to instructions: arithmetic, comparisons, conversions, reductions.
//!
//! Only the last instruction of a sequence writes the destination, which may be a source too.

use super::Result;
use super::inst::{Kind, VReg, read, update};
use super::select::{Form, Select};
use super::words;
use crate::base::Affine;
use crate::codegen::loops::Loops;
use crate::scalar::Fold;
use crate::tile::{Bin, Cmp, Dot, Lane, Reg, Un, Value};

impl Select<'_> {
    /// Translates one assignment.
    pub(super) fn value(&mut self, r: Reg, value: &Value) -> Result<()> {
        let lane = self.ty(r).lane;
        let known = matches!(lane, Lane::F32 | Lane::I32 | Lane::M32) || lane == Lane::F16 && self.isa.half;
        if !known {
            return Err(format!("{lane:?} lanes"));
        }
        match value {
            Value::Const(bits) => self.set_constant(r, *bits),
            Value::Index(form, step) => self.index(r, form, *step)?,
            Value::Copy(a) => self.same(r, *a)?,
            Value::Load(addr, stride) => self.load(r, addr, *stride)?,
            Value::LoadWords(addr, stride) => self.load_words(r, addr, *stride)?,
            Value::LoadCouples(addr) => self.load_couples(r, addr)?,
            Value::Lookup(table, index) => self.lookup(r, table, *index)?,
            Value::Un(op, a) => {
                let word = unary(*op, lane).ok_or_else(|| format!("{op:?} of {lane:?}"))?;
                self.each1(word, r, *a)?;
            }
            Value::Bin(op, a, b) => self.binary(r, *op, *a, *b)?,
            Value::Mla(acc, a, b) | Value::Dot(Dot::Bytes, acc, a, b) => {
                self.multiply_add(r, *acc, *a, *b)?
            }
            Value::Dot(kind, acc, a, b) => self.dot(r, *kind, *acc, *a, *b)?,
            Value::Cmp(op, a, b) => self.compare(r, *op, *a, *b)?,
            Value::Select(mask, a, b) => self.select(r, *mask, *a, *b)?,
            Value::Convert(kind, a) => self.convert(r, *kind, *a)?,
            Value::Splat(a) => self.broadcast(r, *a, 0)?,
            Value::Broadcast(a, lane) => self.broadcast(r, *a, usize::from(*lane))?,
            Value::Pairs(pairs) => self.pairs(r, pairs)?,
            Value::Reduce(fold, a) => self.reduce(r, *fold, *a)?,
        }
        Ok(())
    }

    pub(super) fn each1(&mut self, word: u32, r: Reg, a: Reg) -> Result<()> {
        // What is the same in all lanes is computed once.
        if let Some((v, lane)) = self.lane(a) {
            let once = self.new1(word, v);
            return self.define(r, Form::Lane(once, lane));
        }
        let from = self.words(a)?;
        let to = self.target(r);
        to.iter().zip(from).for_each(|(&to, from)| self.op1(word, to, from));
        Ok(())
    }

    /// As [`Select::each1`], by several instructions.
    pub(super) fn each(&mut self, r: Reg, a: Reg, f: impl Fn(&mut Self, VReg) -> VReg) -> Result<()> {
        let form = match self.lane(a) {
            Some((v, lane)) => Form::Lane(f(self, v), lane),
            None => {
                let from = self.words(a)?;
                Form::Words(from.into_iter().map(|v| f(self, v)).collect())
            }
        };
        self.define(r, form)
    }

    fn each2(&mut self, word: u32, r: Reg, a: Reg, b: Reg) -> Result<()> {
        let (a, b) = (self.words(a)?, self.words(b)?);
        let to = self.target(r);
        for ((&to, a), b) in to.iter().zip(a).zip(b) {
            self.op2(word, to, a, b);
        }
        Ok(())
    }

    /// The same value, or the same bits.
    pub(super) fn same(&mut self, r: Reg, a: Reg) -> Result<()> {
        let from = self.words(a)?;
        if self.split[r as usize] {
            return self.define(r, Form::Words(from));
        }
        let to = self.target(r);
        to.iter().zip(from).for_each(|(&to, from)| self.copy(to, from));
        Ok(())
    }

    fn binary(&mut self, r: Reg, op: Bin, a: Reg, b: Reg) -> Result<()> {
        let lane = self.ty(r).lane;
        if let (Bin::Xor, Some((v, lane)), Some(0x8080_8080)) = (op, self.lane(a), self.constant_reg(b)) {
            let flipped = self.flipped(v);
            return self.define(r, Form::Lane(flipped, lane));
        }
        if let Some(form) = self.weave(op, a, b) {
            return self.define(r, form);
        }
        if matches!(op, Bin::Shl | Bin::ShrS | Bin::ShrU | Bin::ShrRound) {
            return self.shift(r, op, a, b);
        }
        let of_lane: Option<fn(usize) -> u32> = match (op, lane) {
            (Bin::Mul, Lane::F32) => Some(words::fmul_lane),
            (Bin::MulHigh, Lane::I32) => Some(words::sqdmulh_lane),
            _ => None,
        };
        if let Some(word) = of_lane {
            let by_lane = [(a, b), (b, a)].into_iter().find_map(|(x, y)| Some((x, self.lane(y)?)));
            if let Some((x, (v, lane))) = by_lane {
                let from = self.words(x)?;
                let to = self.target(r);
                to.iter().zip(from).for_each(|(&to, x)| self.op2(word(lane), to, x, v));
                return Ok(());
            }
        }
        if (op, lane) == (Bin::Mul, Lane::I32) && self.multiply_narrow(r, a, b, false)? {
            return Ok(());
        }
        let word = binary(op, lane).ok_or_else(|| format!("{op:?} of {lane:?}"))?;
        if self.split[r as usize] {
            let (xs, ys) = (self.words(a)?, self.words(b)?);
            let sums = xs.into_iter().zip(ys).map(|(x, y)| self.new2(word, x, y)).collect();
            return self.define(r, Form::Words(sums));
        }
        match self.once(word, a, b) {
            Some(form) => self.define(r, form),
            None => self.each2(word, r, a, b),
        }
    }

    /// What a constant and a value that is the same in all lanes give, which is too.
    fn once(&mut self, word: u32, a: Reg, b: Reg) -> Option<Form> {
        if let (Some((v, lane)), Some(bits)) = (self.lane(a), self.constant_reg(b)) {
            let constant = self.splat(bits);
            return Some(Form::Lane(self.new2(word, v, constant), lane));
        }
        let (Some(bits), Some((v, lane))) = (self.constant_reg(a), self.lane(b)) else { return None };
        let constant = self.splat(bits);
        Some(Form::Lane(self.new2(word, constant, v), lane))
    }

    fn shift(&mut self, r: Reg, op: Bin, a: Reg, by: Reg) -> Result<()> {
        let Some(count) = self.constant_reg(by) else {
            let (from, counts) = (self.words(a)?, self.words(by)?);
            let whole = self.splat(32);
            let shifted = from.into_iter().zip(counts).map(|(from, count)| {
                let count = self.new2(words::UMIN, count, whole);
                let count = if op == Bin::Shl { count } else { self.new1(words::NEG_V, count) };
                let word = match op {
                    Bin::ShrRound => words::SRSHL,
                    Bin::ShrS => words::SSHL,
                    _ => words::USHL,
                };
                self.new2(word, from, count)
            });
            let shifted = shifted.collect();
            return self.define(r, Form::Words(shifted));
        };
        let arithmetic = match op {
            Bin::ShrS => Some(true),
            Bin::ShrU => Some(false),
            _ => None,
        };
        if let (1..8, Some((raw, signed))) = (count, self.raw_bytes(a))
            && arithmetic == Some(signed)
        {
            return self.shift_bytes(r, &raw, (signed, count));
        }
        match op {
            _ if count == 0 => self.same(r, a),
            Bin::ShrS => self.each1(words::shr(true, count.min(32)), r, a),
            Bin::ShrRound => self.each1(words::srshr(count.min(32)), r, a),
            _ if count > 31 => {
                self.set_constant(r, 0);
                Ok(())
            }
            Bin::Shl => self.each1(words::shl(count), r, a),
            _ => self.each1(words::shr(false, count), r, a),
        }
    }

    /// `acc + a * b`.
    fn multiply_add(&mut self, r: Reg, acc: Reg, a: Reg, b: Reg) -> Result<()> {
        let lane = self.ty(r).lane;
        if lane == Lane::F16 && !self.kernel.fused {
            return Err("products of half floats that are rounded".into());
        }
        if lane == Lane::F32 && !self.kernel.fused {
            let (acc, a, b) = (self.words(acc)?, self.words(a)?, self.words(b)?);
            let to = self.target(r);
            for (i, &to) in to.iter().enumerate() {
                let product = self.new2(words::FMUL, a[i], b[i]);
                self.op2(words::FADD, to, acc[i], product);
            }
            return Ok(());
        }
        if lane == Lane::I32 && acc == r && self.multiply_narrow(r, a, b, true)? {
            return Ok(());
        }
        let by_lane = [(a, b), (b, a)].into_iter().find_map(|(x, y)| Some((x, self.lane(y)?)));
        match by_lane.filter(|_| lane != Lane::I32) {
            Some((x, (v, at))) => {
                let xs = self.words(x)?;
                let to = self.accumulator(r, acc, &[a, b])?;
                let word = if lane == Lane::F16 { words::fmla_half_lane(at) } else { words::fmla_lane(at) };
                to.iter().zip(xs).for_each(|(&to, x)| self.op3(word, to, x, v));
                self.accumulated(r, &to);
            }
            None => {
                let (xs, ys) = (self.words(a)?, self.words(b)?);
                let to = self.accumulator(r, acc, &[a, b])?;
                let word = match lane {
                    Lane::F16 => words::of_pairs_of_half_floats(words::FMLA),
                    Lane::F32 => words::FMLA,
                    _ => words::MLA_V,
                };
                for ((&to, x), y) in to.iter().zip(xs).zip(ys) {
                    self.op3(word, to, x, y);
                }
                self.accumulated(r, &to);
            }
        }
        Ok(())
    }

    /// What instructions that add to it write, with the sum so far in it: the destination, or others
    /// where it is a factor.
    pub(super) fn accumulator(&mut self, r: Reg, acc: Reg, factors: &[Reg]) -> Result<Vec<VReg>> {
        if r == acc {
            return Ok(self.target(r));
        }
        if factors.contains(&r) {
            let sum = self.words(acc)?;
            return Ok(sum.into_iter().map(|from| self.copied(from)).collect());
        }
        self.same(r, acc)?;
        self.words(r)
    }

    /// Moves what [`Select::accumulator`] gave to the destination, where it is not that.
    pub(super) fn accumulated(&mut self, r: Reg, sum: &[VReg]) {
        if self.single(r).is_none() {
            let to = self.target(r);
            to.iter().zip(sum).for_each(|(&to, &from)| self.copy(to, from));
        }
    }

    pub(super) fn copied(&mut self, from: VReg) -> VReg {
        let copy = self.vector();
        self.copy(copy, from);
        copy
    }

    /// Pairs of lanes side by side.
    fn pairs(&mut self, r: Reg, pairs: &[(Reg, u8)]) -> Result<()> {
        let mut halves = Vec::with_capacity(pairs.len());
        for &(from, lane) in pairs {
            halves.push((self.words(from)?[usize::from(lane) / 4], lane % 4 == 2));
        }
        let together = halves.chunks(2).map(|two| match *two {
            [(low, false), (high, false)] => self.new2(words::zip(8, false), low, high),
            [(low, true), (high, true)] => self.new2(words::zip(8, true), low, high),
            [(low, true), (high, false)] => self.new2(words::ext(8), low, high),
            [(low, false), (high, true)] => {
                let both = self.copied(low);
                self.push(words::ins(8, 1, 1), vec![update(both, 0), read(high, 5)], Kind::Plain);
                both
            }
            _ => self.new1(words::dup(8, usize::from(two[0].1)), two[0].0),
        });
        let together = together.collect();
        self.define(r, Form::Words(together))
    }

    /// `form + lane * step`.
    fn index(&mut self, r: Reg, form: &Affine, step: i64) -> Result<()> {
        let start = self.affine(form)?;
        let first = self.new1(words::DUP_W, start);
        let to = self.target(r);
        for (part, &to) in to.iter().enumerate() {
            let lanes: Vec<u8> = (4 * part..4 * part + 4)
                .flat_map(|lane| (lane as i32).wrapping_mul(step as i32).to_le_bytes())
                .collect();
            let steps = self.constant(std::array::from_fn(|i| lanes[i]));
            self.op2(words::ADD_V, to, first, steps);
        }
        Ok(())
    }

    /// A product of elements of 16 bits, of which each instruction takes half a vector; false where
    /// the factors are not.
    fn multiply_narrow(&mut self, r: Reg, a: Reg, b: Reg, add: bool) -> Result<bool> {
        let (Some(xs), Some(ys)) = (self.halves(a), self.halves(b)) else { return Ok(false) };
        let to = self.target(r);
        for (i, &to) in to.iter().enumerate() {
            let high = i % 2 == 1;
            match add {
                true => self.op3(words::mlal(2, true, high), to, xs[i / 2], ys[i / 2]),
                false => self.op2(words::mull(2, true, high), to, xs[i / 2], ys[i / 2]),
            }
        }
        Ok(true)
    }

    fn compare(&mut self, r: Reg, op: Cmp, a: Reg, b: Reg) -> Result<()> {
        let float = match self.ty(a).lane {
            Lane::F32 => true,
            Lane::I32 | Lane::M32 => false,
            lane => return Err(format!("{lane:?} lanes")),
        };
        let (word, swap, not) = match (op, float) {
            (Cmp::Eq, true) => (words::FCMEQ, false, false),
            (Cmp::Ne, true) => (words::FCMEQ, false, true),
            (Cmp::Gt, true) => (words::FCMGT, false, false),
            (Cmp::Lt, true) => (words::FCMGT, true, false),
            (Cmp::Ge, true) => (words::FCMGE, false, false),
            (Cmp::Le, true) => (words::FCMGE, true, false),
            (Cmp::Eq, false) => (words::CMEQ, false, false),
            (Cmp::Ne, false) => (words::CMEQ, false, true),
            (Cmp::Gt, false) => (words::CMGT, false, false),
            (Cmp::Lt, false) => (words::CMGT, true, false),
            (Cmp::Ge, false) => (words::CMGE, false, false),
            (Cmp::Le, false) => (words::CMGE, true, false),
            (Cmp::LtU, false) => (words::CMHI, true, false),
            (Cmp::LeU, false) => (words::CMHS, true, false),
            (op, true) => return Err(format!("{op:?} of floats")),
        };
        let (a, b) = if swap { (b, a) } else { (a, b) };
        if !not {
            return self.each2(word, r, a, b);
        }
        let (a, b) = (self.words(a)?, self.words(b)?);
        let to = self.target(r);
        for ((&to, a), b) in to.iter().zip(a).zip(b) {
            let equal = self.new2(word, a, b);
            self.op1(words::MVN, to, equal);
        }
        Ok(())
    }

    fn select(&mut self, r: Reg, mask: Reg, a: Reg, b: Reg) -> Result<()> {
        let (masks, xs, ys) = (self.words(mask)?, self.words(a)?, self.words(b)?);
        let to = self.target(r);
        for (i, &to) in to.iter().enumerate() {
            let chosen = self.vector();
            self.copy(chosen, masks[i]);
            self.op3(words::BSL, chosen, xs[i], ys[i]);
            self.copy(to, chosen);
        }
        Ok(())
    }

    /// One lane of a register in every lane of another.
    fn broadcast(&mut self, r: Reg, a: Reg, lane: usize) -> Result<()> {
        let once = self.single(a).is_some();
        let form = match self.form(a) {
            Some(Form::Lane(v, lane)) if once => Form::Lane(*v, *lane),
            _ => {
                let (size, per) = (self.lane_bytes(a), self.per_vector(a));
                let from = self.words(a)?[lane / per];
                match once {
                    true => Form::Lane(from, lane % per),
                    false => Form::Words(vec![self.new1(words::dup(size, lane % per), from); self.count(r)]),
                }
            }
        };
        match (self.ty(r).lanes, form) {
            // A scalar is in lane 0, which a lane elsewhere is not.
            (1, Form::Lane(v, 0)) => self.define(r, Form::Words(vec![v])),
            (_, form) => self.define(r, form),
        }
    }

    /// All lanes folded to a scalar, by halves.
    fn reduce(&mut self, r: Reg, fold: Fold, a: Reg) -> Result<()> {
        let ty = self.ty(a);
        let op = Bin::of(fold);
        let word = binary(op, ty.lane).ok_or_else(|| format!("{op:?} of {:?}", ty.lane))?;
        let mut parts = self.words(a)?;
        let (lanes, size, per) = (usize::from(ty.lanes), self.lane_bytes(a), self.per_vector(a));
        let whole = lanes.next_power_of_two();
        let identity = match ty.lane.dtype() {
            Some(dtype) => self.lane_bits(a, fold.identity(dtype).bits),
            None if fold == Fold::And => u32::MAX,
            None => 0,
        };
        if lanes < whole {
            let neutral = self.splat(identity);
            if lanes % per != 0 {
                let last = parts.len() - 1;
                let filled = self.vector();
                self.copy(filled, parts[last]);
                for lane in lanes % per..whole.min(per) {
                    let fields = vec![update(filled, 0), read(neutral, 5)];
                    self.push(words::ins(size, lane, 0), fields, Kind::Plain);
                }
                parts[last] = filled;
            }
            parts.resize(whole.div_ceil(per), neutral);
        }
        while parts.len() > 1 {
            let upper = parts.split_off(parts.len() / 2);
            parts = parts.iter().zip(upper).map(|(&x, y)| self.new2(word, x, y)).collect();
        }
        let (mut sum, mut left) = (parts[0], whole.min(per));
        while left > 1 {
            left /= 2;
            let moved = self.new2(words::ext(size * left), sum, sum);
            sum = self.new2(word, sum, moved);
        }
        let to = self.target(r);
        self.copy(to[0], sum);
        Ok(())
    }
}

fn unary(op: Un, lane: Lane) -> Option<u32> {
    if lane == Lane::F16 {
        return unary(op, Lane::F32).map(words::of_half_floats);
    }
    Some(match (op, lane) {
        (Un::Neg, Lane::F32) => words::FNEG,
        (Un::Abs, Lane::F32) => words::FABS,
        (Un::Sqrt, Lane::F32) => words::FSQRT,
        (Un::Floor, Lane::F32) => words::FRINTM,
        (Un::Ceil, Lane::F32) => words::FRINTP,
        (Un::Trunc, Lane::F32) => words::FRINTZ,
        (Un::Round, Lane::F32) => words::FRINTN,
        (Un::Neg, Lane::I32) => words::NEG_V,
        (Un::Abs, Lane::I32) => words::ABS_V,
        (Un::Not, Lane::I32 | Lane::M32) => words::MVN,
        _ => return None,
    })
}

fn binary(op: Bin, lane: Lane) -> Option<u32> {
    if lane == Lane::F16 {
        return binary(op, Lane::F32).map(words::of_pairs_of_half_floats);
    }
    Some(match (op, lane) {
        (Bin::Add, Lane::F32) => words::FADD,
        (Bin::Sub, Lane::F32) => words::FSUB,
        (Bin::Mul, Lane::F32) => words::FMUL,
        (Bin::Div, Lane::F32) => words::FDIV,
        // Which of equal zeros it gives is not specified.
        (Bin::Min | Bin::MinNan, Lane::F32) => words::FMIN,
        (Bin::Max | Bin::MaxNan, Lane::F32) => words::FMAX,
        (Bin::Add, Lane::I32) => words::ADD_V,
        (Bin::Sub, Lane::I32) => words::SUB_V,
        (Bin::AddCouples, Lane::I32) => words::of_halves(words::ADD_V),
        (Bin::SubCouples, Lane::I32) => words::of_halves(words::SUB_V),
        (Bin::MinBytes, Lane::I32) => words::of_bytes(words::SMIN),
        (Bin::MaxBytes, Lane::I32) => words::of_bytes(words::SMAX),
        (Bin::MinBytesU, Lane::I32) => words::of_bytes(words::UMIN),
        (Bin::MaxBytesU, Lane::I32) => words::of_bytes(words::UMAX),
        (Bin::Mul, Lane::I32) => words::MUL_V,
        (Bin::MulHigh, Lane::I32) => words::SQDMULH,
        (Bin::Min, Lane::I32) => words::SMIN,
        (Bin::Max, Lane::I32) => words::SMAX,
        (Bin::MinU, Lane::I32) => words::UMIN,
        (Bin::MaxU, Lane::I32) => words::UMAX,
        (Bin::And, Lane::I32 | Lane::M32) => words::AND,
        (Bin::Or, Lane::I32 | Lane::M32) => words::ORR,
        (Bin::Xor, Lane::I32 | Lane::M32) => words::EOR,
        _ => return None,
    })
}
