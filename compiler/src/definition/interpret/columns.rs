//! Runs a program over blocks of points: one column of bits per step.

use super::program::{Column, Load, Place, Program, Step};
use crate::base::{Affine, DType};
use crate::error::{Error, Result};
use crate::scalar::{Op, Scalar, cast};
use half::{bf16, f16};

/// Points in a block.
const BLOCK: usize = 256;

struct Machine<'a> {
    program: &'a Program,
    operands: &'a [&'a [u8]],
    /// `BLOCK` values per step.
    columns: Vec<u64>,
    /// The coordinate along each axis of each point of the block.
    coords: Vec<[i64; BLOCK]>,
    /// The point of the reduction.
    reduction: Vec<i64>,
    /// For each step with an address, the part of it that the axes give.
    bases: Vec<Vec<i64>>,
    /// Points in the current block.
    points: usize,
}

/// Runs the program; `operands` are the bytes of the tensors read, `out` those of the output.
pub(super) fn run(program: &Program, operands: &[&[u8]], out: &mut [u8]) -> Result<()> {
    let (axes, reduction) = program.extents.split_at(program.axes);
    let points: usize = axes.iter().product();
    let folds: usize = if program.fold.is_some() { reduction.iter().product() } else { 0 };
    let mut machine = Machine {
        program,
        operands,
        columns: vec![0; program.steps.len() * BLOCK],
        coords: vec![[0; BLOCK]; axes.len()],
        reduction: vec![0; reduction.len()],
        bases: program.steps.iter().map(|_| Vec::new()).collect(),
        points: BLOCK,
    };
    machine.fill(&program.once)?;
    let mut acc = vec![0; BLOCK];
    let mut first = 0;
    while first < points {
        machine.points = BLOCK.min(points - first);
        machine.place(first, axes);
        machine.fill(&program.before)?;
        if let Some(fold) = &program.fold {
            acc[..machine.points].fill(fold.identity);
            machine.reduction.fill(0);
            for _ in 0..folds {
                machine.fill(&program.body)?;
                let from = &machine.columns[fold.body * BLOCK..][..machine.points];
                acc.iter_mut().zip(from).for_each(|(a, &b)| *a = (fold.join)(*a, b));
                machine.next_of_reduction(reduction);
            }
            if let Some(column) = program.acc {
                machine.columns[column * BLOCK..][..machine.points].copy_from_slice(&acc[..machine.points]);
            }
        }
        machine.fill(&program.after)?;
        machine.store(out);
        first += machine.points;
    }
    Ok(())
}

impl Machine<'_> {
    /// Sets the coordinates of the points from number `first` on.
    fn place(&mut self, first: usize, axes: &[usize]) {
        let mut rest = first;
        let mut at = vec![0i64; axes.len()];
        for (i, &extent) in axes.iter().enumerate().rev() {
            at[i] = (rest % extent) as i64;
            rest /= extent;
        }
        for p in 0..self.points {
            for (column, &value) in self.coords.iter_mut().zip(&at) {
                column[p] = value;
            }
            for (value, &extent) in at.iter_mut().zip(axes).rev() {
                *value += 1;
                if *value < extent as i64 {
                    break;
                }
                *value = 0;
            }
        }
        self.bases.iter_mut().for_each(Vec::clear);
    }

    fn next_of_reduction(&mut self, extents: &[usize]) {
        for (value, &extent) in self.reduction.iter_mut().zip(extents).rev() {
            *value += 1;
            if *value < extent as i64 {
                return;
            }
            *value = 0;
        }
    }

    /// Writes the axes' part of a form for every point.
    fn along_axes(&self, form: &Affine, out: &mut Vec<i64>) {
        out.clear();
        out.resize(self.points, form.base);
        for &(var, factor) in form.terms.iter().filter(|t| (t.0 as usize) < self.program.axes) {
            let coords = &self.coords[var as usize][..self.points];
            out.iter_mut().zip(coords).for_each(|(o, &c)| *o += factor * c);
        }
    }

    /// The reduction's part of a form.
    fn along_reduction(&self, form: &Affine) -> i64 {
        let axes = self.program.axes;
        let terms = form.terms.iter().filter(|t| t.0 as usize >= axes);
        terms.map(|&(var, factor)| factor * self.reduction[var as usize - axes]).sum()
    }

    fn fill(&mut self, list: &[Column]) -> Result<()> {
        list.iter().try_for_each(|&column| self.step(column))
    }

    fn step(&mut self, column: Column) -> Result<()> {
        let n = self.points;
        let step = &self.program.steps[column];
        match step {
            Step::Index(form) => {
                let mut values = std::mem::take(&mut self.bases[column]);
                self.along_axes(form, &mut values);
                let offset = self.along_reduction(form);
                let out = &mut self.columns[column * BLOCK..][..n];
                out.iter_mut().zip(&values).for_each(|(o, &v)| *o = (v + offset) as u64);
                self.bases[column] = values;
                return Ok(());
            }
            Step::Load(load) => return self.load(column, load),
            Step::Acc => return Ok(()),
            _ => {}
        }
        let (before, rest) = self.columns.split_at_mut(column * BLOCK);
        let out = &mut rest[..n];
        let at = |c: Column| &before[c * BLOCK..][..n];
        match *step {
            Step::Const(bits) => out.fill(bits),
            Step::Unary(f, a) => out.iter_mut().zip(at(a)).for_each(|(o, &a)| *o = f(a)),
            Step::Binary(f, a, b) => {
                out.iter_mut().zip(at(a)).zip(at(b)).for_each(|((o, &a), &b)| *o = f(a, b));
            }
            Step::Single(op, a, b) => single(op, out, at(a), at(b)),
            Step::AddProduct(f, sum, a, b) => {
                let pairs = at(a).iter().zip(at(b));
                out.iter_mut().zip(at(sum)).zip(pairs).for_each(|((o, &sum), (&a, &b))| *o = f(sum, a, b));
            }
            Step::Select(m, a, b) => {
                let pairs = at(a).iter().zip(at(b));
                out.iter_mut()
                    .zip(at(m))
                    .zip(pairs)
                    .for_each(|((o, &m), (&a, &b))| *o = if m != 0 { a } else { b });
            }
            Step::Cast(from, to, saturate, a) => cast_column(out, at(a), from, to, saturate),
            Step::Copy(a) => out.copy_from_slice(at(a)),
            Step::Index(_) | Step::Load(_) | Step::Acc => {}
        }
        Ok(())
    }

    fn load(&mut self, column: Column, load: &Load) -> Result<()> {
        let n = self.points;
        let mut base = std::mem::take(&mut self.bases[column]);
        if base.len() != n {
            self.along_axes(&load.address, &mut base);
        }
        let offset = self.along_reduction(&load.address);
        let bytes = self.operands[load.operand];
        let result = if load.checked.is_empty() {
            let out = &mut self.columns[column * BLOCK..][..n];
            match load.size {
                1 => gather::<1>(out, bytes, &base, offset),
                2 => gather::<2>(out, bytes, &base, offset),
                4 => gather::<4>(out, bytes, &base, offset),
                _ => gather::<8>(out, bytes, &base, offset),
            }
            Ok(())
        } else {
            self.load_checked(column, load, bytes, &base, offset)
        };
        self.bases[column] = base;
        result
    }

    fn load_checked(
        &mut self,
        column: Column,
        load: &Load,
        bytes: &[u8],
        base: &[i64],
        offset: i64,
    ) -> Result<()> {
        let n = self.points;
        let mut address: Vec<i64> = base.iter().map(|b| b + offset).collect();
        let mut outside = vec![false; n];
        let mut index = Vec::new();
        for (place, extent, stride) in &load.checked {
            match place {
                Place::Affine(form) => {
                    self.along_axes(form, &mut index);
                    let by = self.along_reduction(form);
                    index.iter_mut().for_each(|i| *i += by);
                }
                Place::Dynamic(column) => {
                    index.clear();
                    index.extend(self.columns[column * BLOCK..][..n].iter().map(|&v| v as i64));
                }
            }
            for ((address, outside), &i) in address.iter_mut().zip(&mut outside).zip(&index) {
                *outside |= i < 0 || i >= *extent;
                *address += stride * i.clamp(0, (*extent - 1).max(0));
            }
        }
        let out = &mut self.columns[column * BLOCK..][..n];
        for ((o, &address), &outside) in out.iter_mut().zip(&address).zip(&outside) {
            *o = match (outside, load.fill) {
                (false, _) => element(bytes, address, load.size),
                (true, Some(fill)) => fill,
                (true, None) => {
                    return Err(Error::model("an index lies outside its tensor")
                        .advise("Check the indices that the model computes or is given"));
                }
            };
        }
        Ok(())
    }

    fn store(&self, out: &mut [u8]) {
        let mut address = Vec::new();
        self.along_axes(&self.program.store, &mut address);
        let values = &self.columns[self.program.result * BLOCK..][..self.points];
        let size = self.program.store_size;
        for (&address, &value) in address.iter().zip(values) {
            out[address as usize * size..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }
}

fn element(bytes: &[u8], address: i64, size: usize) -> u64 {
    let mut le = [0; 8];
    le[..size].copy_from_slice(&bytes[address as usize * size..][..size]);
    u64::from_le_bytes(le)
}

fn gather<const SIZE: usize>(out: &mut [u64], bytes: &[u8], base: &[i64], offset: i64) {
    for (o, &b) in out.iter_mut().zip(base) {
        let mut le = [0; 8];
        le[..SIZE].copy_from_slice(&bytes[(b + offset) as usize * SIZE..][..SIZE]);
        *o = u64::from_le_bytes(le);
    }
}

fn single(op: Op, out: &mut [u64], a: &[u64], b: &[u64]) {
    fn each(out: &mut [u64], a: &[u64], b: &[u64], f: impl Fn(f32, f32) -> f32) {
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *o = u64::from(f(f32::from_bits(a as u32), f32::from_bits(b as u32)).to_bits());
        }
    }
    match op {
        Op::Add => each(out, a, b, |a, b| a + b),
        Op::Sub => each(out, a, b, |a, b| a - b),
        Op::Mul => each(out, a, b, |a, b| a * b),
        _ => each(out, a, b, |a, b| a / b),
    }
}

fn cast_column(out: &mut [u64], from: &[u64], dtype: DType, to: DType, saturate: bool) {
    let each =
        |f: &dyn Fn(u64) -> u64, out: &mut [u64]| out.iter_mut().zip(from).for_each(|(o, &v)| *o = f(v));
    let bits = |v: f32| u64::from(v.to_bits());
    // The common conversions of weights; the others through the general function.
    match (dtype, to) {
        (DType::F16, DType::F32) => each(&|v| bits(f16::from_bits(v as u16).to_f32()), out),
        (DType::BF16, DType::F32) => each(&|v| bits(bf16::from_bits(v as u16).to_f32()), out),
        (DType::F32, DType::F16) => each(&|v| f16::from_f32(f32::from_bits(v as u32)).to_bits().into(), out),
        (DType::U8, DType::F32) => each(&|v| bits(f32::from(v as u8)), out),
        (DType::I8, DType::F32) => each(&|v| bits(f32::from(v as i8)), out),
        (DType::I32, DType::F32) => each(&|v| bits(v as i32 as f32), out),
        (DType::I8, DType::I32) => each(&|v| v as i8 as i32 as u32 as u64, out),
        (DType::U8, DType::I32) => each(&|v| v, out),
        _ => each(&|bits| cast(Scalar { dtype, bits }, to, saturate).bits, out),
    }
}
