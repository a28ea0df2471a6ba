//! Operations in which lanes meet, and the way out of vectors for operations without them.

use super::body::{Body, Parts};
use super::shape::Shape;
use crate::base::Affine;
use crate::error::{Error, Result};
use crate::scalar::Fold;
use crate::target::Arch;
use crate::tile::{Bin, Dot, Lane, Reg};
use cranelift_codegen::ir::{InstBuilder, Value, types};

impl Body<'_> {
    /// Applies a scalar operation to every lane of some registers.
    pub fn by_lane(
        &mut self,
        to: Shape,
        from: &[(Shape, Reg)],
        mut f: impl FnMut(&mut Self, &[Value]) -> Result<Value>,
    ) -> Result<Parts> {
        let sources: Vec<(Shape, Parts)> = from.iter().map(|&(shape, reg)| (shape, self.get(reg))).collect();
        let mut lanes = Vec::with_capacity(to.lanes);
        for lane in 0..to.lanes {
            let operands: Vec<Value> =
                sources.iter().map(|(shape, parts)| self.extract(*shape, parts, lane)).collect();
            let mut result = f(self, &operands)?;
            if to.is_mask() && !to.is_scalar() {
                result = self.b.ins().bmask(to.vector().lane_type(), result);
            }
            lanes.push(result);
        }
        Ok(self.assemble(to, &lanes))
    }

    /// One lane as a scalar.
    fn extract(&mut self, shape: Shape, parts: &[Value], lane: usize) -> Value {
        if shape.is_scalar() {
            return parts[0];
        }
        let value = self.b.ins().extractlane(parts[lane / shape.per_part()], (lane % shape.per_part()) as u8);
        if shape.is_mask() { self.truth(value) } else { value }
    }

    /// A lane of all ones or zeros as a scalar truth value.
    fn truth(&mut self, lane: Value) -> Value {
        use cranelift_codegen::ir::condcodes::IntCC;
        self.b.ins().icmp_imm_s(IntCC::NotEqual, lane, 0)
    }

    /// `form + lane * step` in integer lanes.
    pub fn index(&mut self, shape: Shape, form: &Affine, step: i64) -> Result<Parts> {
        if shape.is_float() || shape.is_mask() {
            return Err(Error::bug("an index needs integer lanes"));
        }
        let first = self.affine(form)?;
        let first = match shape.lane {
            Lane::I32 => self.b.ins().ireduce(types::I32, first),
            _ => first,
        };
        if shape.is_scalar() {
            return Ok(vec![first]);
        }
        let base = self.b.ins().splat(shape.vector(), first);
        let bytes = shape.bits() as usize / 8;
        let per_part = shape.per_part() as i64;
        Ok((0..shape.parts() as i64)
            .map(|part| {
                let steps: Vec<u8> = (part * per_part..(part + 1) * per_part)
                    .flat_map(|lane| step.wrapping_mul(lane).to_le_bytes()[..bytes].to_vec())
                    .collect();
                let steps = self.vector(shape.vector(), &steps);
                self.b.ins().iadd(base, steps)
            })
            .collect())
    }

    pub fn splat(&mut self, shape: Shape, a: Reg) -> Result<Parts> {
        let mut value = self.get_scalar(a)?;
        if shape.is_scalar() {
            return Ok(vec![value]);
        }
        if shape.is_mask() {
            value = self.b.ins().bmask(shape.vector().lane_type(), value);
        }
        let splat = self.b.ins().splat(shape.vector(), value);
        Ok(vec![splat; shape.parts()])
    }

    pub fn broadcast(&mut self, shape: Shape, a: Reg, lane: usize) -> Result<Parts> {
        let from = self.shape(a);
        if lane >= from.lanes {
            return Err(Error::bug(format!("%{a} has no lane {lane}")));
        }
        let parts = self.get(a);
        if shape.is_scalar() || from.is_scalar() {
            let value = self.extract(from, &parts, lane);
            if shape.is_scalar() {
                return Ok(vec![value]);
            }
            let value =
                if shape.is_mask() { self.b.ins().bmask(shape.vector().lane_type(), value) } else { value };
            let splat = self.b.ins().splat(shape.vector(), value);
            return Ok(vec![splat; shape.parts()]);
        }
        // The form that Cranelift folds into multiply-adds by element on aarch64.
        let bytes = (from.bits() / 8) as u8;
        let first = (lane % from.per_part()) as u8 * bytes;
        let mask: Vec<u8> = (0..16).map(|i| first + i % bytes).collect();
        let source = self.cast(types::I8X16, parts[lane / from.per_part()]);
        let shuffled = self.shuffle(source, source, &mask);
        let value = self.cast(shape.vector(), shuffled);
        Ok(vec![value; shape.parts()])
    }

    /// All lanes folded by halves.
    pub fn reduce(&mut self, fold: Fold, a: Reg) -> Result<Value> {
        let shape = self.shape(a);
        let op = Bin::of(fold);
        let mut parts = self.get(a);
        if shape.is_scalar() {
            return Ok(parts[0]);
        }
        let identity = match shape.lane.dtype() {
            Some(dtype) => fold.identity(dtype).bits,
            None => u64::from(fold == Fold::And),
        };
        let total = shape.lanes.next_power_of_two();
        let missing = shape.parts() * shape.per_part() - shape.lanes;
        if missing > 0 && total > shape.lanes {
            let last = parts.len() - 1;
            parts[last] = self.fill(shape, parts[last], missing, identity);
        }
        let whole = self.constant(shape, identity);
        parts.resize(total.div_ceil(shape.per_part()), whole);
        while parts.len() > 1 {
            let upper = parts.split_off(parts.len() / 2);
            for (x, y) in parts.iter_mut().zip(upper) {
                *x = self.binary_part(op, shape, *x, y)?;
            }
        }
        let mut vector = parts[0];
        let mut lanes = total.min(shape.per_part());
        while lanes > 1 {
            lanes /= 2;
            let moved = self.move_down(vector, lanes * shape.bits() as usize / 8, shape);
            vector = self.binary_part(op, shape, vector, moved)?;
        }
        let lane = self.b.ins().extractlane(vector, 0);
        Ok(if shape.is_mask() { self.truth(lane) } else { lane })
    }

    /// Sets the last lanes of a part.
    fn fill(&mut self, shape: Shape, part: Value, missing: usize, bits: u64) -> Value {
        let bytes = shape.bits() as usize / 8;
        let mut keep = vec![0xffu8; 16];
        keep[16 - missing * bytes..].fill(0);
        let keep = self.vector(shape.vector(), &keep);
        let fill = self.constant(shape, bits);
        self.b.ins().bitselect(keep, part, fill)
    }

    /// The vector with its bytes moved down, around.
    fn move_down(&mut self, vector: Value, bytes: usize, shape: Shape) -> Value {
        let source = self.cast(types::I8X16, vector);
        let mask: Vec<u8> = (0..16).map(|i| (i + bytes as u8) % 16).collect();
        let moved = self.shuffle(source, source, &mask);
        self.cast(shape.vector(), moved)
    }

    /// Pairs of lanes side by side.
    pub fn pairs(&mut self, shape: Shape, pairs: &[(Reg, u8)]) -> Parts {
        let mut parts = Vec::with_capacity(shape.parts());
        for two in pairs.chunks(2) {
            let [low, high] = [two.first(), two.last()].map(|pair| {
                let (reg, lane) = pair.copied().unwrap_or_default();
                let part = self.get(reg)[usize::from(lane) / 4];
                (self.cast(types::I8X16, part), lane % 4 * 4)
            });
            let mask: Vec<u8> = (0..8).map(|i| low.1 + i).chain((0..8).map(|i| 16 + high.1 + i)).collect();
            let both = self.shuffle(low.0, high.0, &mask);
            parts.push(self.cast(shape.vector(), both));
        }
        parts
    }

    pub fn dot(&mut self, kind: Dot, acc: Reg, a: Reg, b: Reg) -> Result<Parts> {
        if let Dot::Squares(signs) = kind {
            return Ok(self.squares(signs.of_words(), acc, a, b));
        }
        let shape = self.shape(acc);
        let (accs, mut xs, mut ys) = (self.get(acc), self.get(a), self.get(b));
        if matches!(kind, Dot::Halves | Dot::HalfPairs | Dot::CoupleHalves) {
            ys.chunks_exact_mut(2).for_each(|pair| self.join_halves(pair));
        }
        if shape.is_scalar() {
            for values in [&mut xs, &mut ys] {
                values[0] = self.b.ins().scalar_to_vector(types::I32X4, values[0]);
            }
        }
        let mut parts = Vec::with_capacity(accs.len());
        for ((acc, x), y) in accs.into_iter().zip(xs).zip(ys) {
            let acc_vector =
                if shape.is_scalar() { self.b.ins().scalar_to_vector(types::I32X4, acc) } else { acc };
            let sum = self.dot_part(kind, acc_vector, x, y);
            parts.push(if shape.is_scalar() { self.b.ins().extractlane(sum, 0) } else { sum });
        }
        Ok(parts)
    }

    /// Two rows by two columns in each part, by products of a word each.
    fn squares(&mut self, kind: Dot, acc: Reg, a: Reg, b: Reg) -> Parts {
        let (accs, xs, ys) = (self.get(acc), self.get(a), self.get(b));
        let operands = accs.into_iter().zip(xs).zip(ys);
        let sums = operands.map(|((acc, x), y)| {
            (0..2).fold(acc, |sum, word| {
                let x = self.words_of(x, [word, word, word + 2, word + 2]);
                let y = self.words_of(y, [word, word + 2, word, word + 2]);
                self.dot_part(kind, sum, x, y)
            })
        });
        sums.collect()
    }

    /// Eight words of which one vector has the lower halves, one the upper ones.
    fn join_halves(&mut self, pair: &mut [Value]) {
        let [low, high] = [0, 1].map(|i| self.cast(types::I8X16, pair[i]));
        for (first, word) in [0, 8].into_iter().zip(pair) {
            let mask: Vec<u8> = (0..16).map(|i| first + i / 4 * 2 + i % 2 + i % 4 / 2 * 16).collect();
            let joined = self.shuffle(low, high, &mask);
            *word = self.cast(types::I32X4, joined);
        }
    }

    /// Lanes of a vector in another order.
    fn words_of(&mut self, vector: Value, lanes: [u8; 4]) -> Value {
        let source = self.cast(types::I8X16, vector);
        let mask: Vec<u8> = lanes.into_iter().flat_map(|lane| (0..4).map(move |i| 4 * lane + i)).collect();
        let moved = self.shuffle(source, source, &mask);
        self.cast(types::I32X4, moved)
    }

    /// In the forms that Cranelift turns into `sdot`, `usdot` and `vpdpbusd` where they exist.
    fn dot_part(&mut self, kind: Dot, acc: Value, x: Value, y: Value) -> Value {
        if matches!(kind, Dot::Couples | Dot::CoupleHalves) {
            let (x, y) = (self.cast(types::I16X8, x), self.cast(types::I16X8, y));
            let sums = self.multiply_pairs(x, y);
            return self.b.ins().iadd(sums, acc);
        }
        if kind == Dot::Pairs {
            return self.add_pairs(acc, x, y);
        }
        if kind == Dot::HalfPairs {
            return self.add_half_pairs(acc, x, y);
        }
        let (x, y) = (self.cast(types::I8X16, x), self.cast(types::I8X16, y));
        let (x_signed, y_signed) = match kind {
            Dot::Us => (false, true),
            Dot::Ss | Dot::Sn | Dot::Halves => (true, true),
            Dot::Uu
            | Dot::Bytes
            | Dot::Couples
            | Dot::CoupleHalves
            | Dot::Pairs
            | Dot::HalfPairs
            | Dot::Squares(_) => (false, false),
        };
        let xs = self.widen(x, x_signed, 2);
        let ys = self.widen(y, y_signed, 2);
        let x86 = self.target.arch == Arch::X86_64;
        // Patterns are matched with the operands in this order.
        let swap = x86 && kind == Dot::Us;
        let vnni = self.target.has_vnni() && kind == Dot::Us;
        let mut sums = Vec::with_capacity(2);
        for (&x, &y) in xs.iter().zip(&ys) {
            let (x, y) = if swap { (y, x) } else { (x, y) };
            sums.push(if x86 && !vnni { self.multiply_pairs(x, y) } else { self.add_products(x, y, kind) });
        }
        let sum = self.b.ins().iadd_pairwise(sums[0], sums[1]);
        self.b.ins().iadd(sum, acc)
    }

    /// Sums of two products of unsigned by signed bytes in 16 bits, which saturate, added to 16-bit numbers: even
    /// bytes and odd ones apart, since the baseline of x86_64 shuffles no bytes.
    fn add_pairs(&mut self, acc: Value, x: Value, y: Value) -> Value {
        let [acc, x, y] = [acc, x, y].map(|v| self.cast(types::I16X8, v));
        let low = [x, y].map(|v| self.b.ins().ishl_imm_u(v, 8));
        let even = [self.b.ins().ushr_imm_u(low[0], 8), self.b.ins().sshr_imm_u(low[1], 8)];
        let odd = [self.b.ins().ushr_imm_u(x, 8), self.b.ins().sshr_imm_u(y, 8)];
        let [even, odd] = [even, odd].map(|[x, y]| self.b.ins().imul(x, y));
        let sums = self.b.ins().sadd_sat(even, odd);
        let sums = self.b.ins().iadd(sums, acc);
        self.cast(types::I32X4, sums)
    }

    /// Products of signed bytes added to 16-bit numbers: of a word's even bytes to the lower one, of its odd bytes to
    /// the upper one.
    fn add_half_pairs(&mut self, acc: Value, x: Value, y: Value) -> Value {
        let [acc, x, y] = [acc, x, y].map(|v| self.cast(types::I16X8, v));
        let even = [x, y].map(|v| {
            let low = self.b.ins().ishl_imm_u(v, 8);
            self.b.ins().sshr_imm_u(low, 8)
        });
        let odd = [x, y].map(|v| self.b.ins().sshr_imm_u(v, 8));
        let [even, odd] = [even, odd].map(|[x, y]| self.b.ins().imul(x, y));
        // Each lane of 32 bits has the products of two bytes, whose sum belongs into one half of it.
        let [even, odd] = [even, odd].map(|products| self.cast(types::I32X4, products));
        let next = self.b.ins().ushr_imm_u(even, 16);
        let low = self.b.ins().iadd(even, next);
        let low = self.b.ins().ishl_imm_u(low, 16);
        let low = self.b.ins().ushr_imm_u(low, 16);
        let before = self.b.ins().ishl_imm_u(odd, 16);
        let high = self.b.ins().iadd(odd, before);
        let high = self.b.ins().ushr_imm_u(high, 16);
        let high = self.b.ins().ishl_imm_u(high, 16);
        let sums = self.b.ins().bor(low, high);
        let sums = self.cast(types::I16X8, sums);
        let sums = self.b.ins().iadd(sums, acc);
        self.cast(types::I32X4, sums)
    }

    /// Sums of neighbouring products of 16-bit lanes: `pmaddwd`.
    fn multiply_pairs(&mut self, x: Value, y: Value) -> Value {
        let (xs, ys) = (self.widen(x, true, 2), self.widen(y, true, 2));
        let low = self.b.ins().imul(xs[0], ys[0]);
        let high = self.b.ins().imul(xs[1], ys[1]);
        self.b.ins().iadd_pairwise(low, high)
    }

    /// Sums of neighbouring products of bytes in 16-bit lanes, which hold each product.
    fn add_products(&mut self, x: Value, y: Value, kind: Dot) -> Value {
        let products = self.b.ins().imul(x, y);
        let halves = self.widen(products, kind != Dot::Uu, 2);
        self.b.ins().iadd_pairwise(halves[0], halves[1])
    }
}
