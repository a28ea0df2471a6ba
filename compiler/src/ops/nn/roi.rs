//! Pooling of regions: RoiAlign and MaxRoiPool.

use super::sample::{Taps, weighted};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "RoiAlign",
        versions: &[10, 16, 22],
        infer: infer_align,
        lower: Lower::Define(align),
        note: "with sampling_ratio 0, at most as many samples as for a region of the whole input",
    },
    Operator {
        domain: "",
        name: "MaxRoiPool",
        versions: &[1, 22],
        infer: infer_max,
        lower: Lower::Define(max),
        note: "",
    },
];

fn positive(ctx: &Ctx, name: &str, default: i64) -> Result<usize> {
    let value = ctx.attrs().int(name, default)?;
    require((1..1 << 20).contains(&value), || format!("attribute {name} is {value}, but must be positive"))?;
    Ok(value as usize)
}

fn infer_align(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, rois, batch) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let fits = x.rank() == 4 && rois.rank() == 2 && rois.shape[1] == 4 && batch.shape == rois.shape[..1];
    require(fits && x.dtype.is_float() && rois.dtype == x.dtype, || {
        format!("regions {rois} of {x} are not defined")
    })?;
    let (height, width) = (positive(ctx, "output_height", 1)?, positive(ctx, "output_width", 1)?);
    Ok(vec![TensorType::new(x.dtype, [rois.shape[0], x.shape[1], height, width])])
}

/// The samples of regions along one dimension of space: for each region, output and sample, the
/// two neighbours and their weights (zero outside the input).
struct Samples {
    low: Val,
    high: Val,
    low_weight: Val,
    high_weight: Val,
    /// How many samples each region takes; `None` where it is the same number for all.
    count: Option<Val>,
    most: usize,
}

/// The boxes of regions along one dimension of space.
struct Boxes {
    rois: Val,
    /// The dimension of space: 0 is y, 1 is x.
    d: usize,
    float: DType,
    scale: f64,
    /// Pixels lie at halves, and regions may be smaller than a pixel.
    half: bool,
    /// How long the input is.
    size: usize,
    outputs: usize,
}

impl Boxes {
    fn new(e: &mut Emit, d: usize, size: usize, outputs: usize) -> Result<Boxes> {
        let (ctx, rois) = (e.ctx, e.input(1)?);
        let float = compute_type(rois.dtype());
        let scale = f64::from(ctx.attrs().float("spatial_scale", 1.0)?);
        let half = ctx.version() >= 16
            && ctx.attrs().str("coordinate_transformation_mode", "half_pixel")? == "half_pixel";
        Ok(Boxes { rois, d, float, scale, half, size, outputs })
    }

    /// The lower (0) or upper (2) end of a box, which is x1, y1, x2, y2: the last dimension of space comes first.
    fn corner(&self, b: &mut DefBuilder, first: usize) -> ExprId {
        let at = [b.var(0), Affine::constant((first + 1 - self.d) as i64)];
        let c = b.elem(&self.rois, &at, self.float);
        let c = b.times_number(c, self.scale);
        b.plus_number(c, if self.half { -0.5 } else { 0.0 })
    }

    /// How much of a box one output covers.
    fn bin(&self, b: &mut DefBuilder) -> ExprId {
        let (from, to) = (self.corner(b, 0), self.corner(b, 2));
        let mut extent = b.minus(to, from);
        if !self.half {
            let one = b.number(self.float, 1.0);
            extent = b.op(Op::Max, &[extent, one]);
        }
        let n = b.number(self.float, self.outputs as f64);
        b.over(extent, n)
    }

    /// The coordinate of a sample, one of `count` of an output, and whether it lies inside.
    fn place(&self, b: &mut DefBuilder, count: ExprId) -> (ExprId, ExprId) {
        let float = self.float;
        let (from, bin) = (self.corner(b, 0), self.bin(b));
        let (output, sample) = (b.index(b.var(1)), b.index(b.var(2)));
        let (output, sample) = (b.cast(float, output), b.cast(float, sample));
        let start = b.times(output, bin);
        let middle = b.plus_number(sample, 0.5);
        let step = b.over(bin, count);
        let within = b.times(middle, step);
        let sum = b.plus(from, start);
        let x = b.plus(sum, within);
        let (least, end) = (b.number(float, -1.0), b.number(float, self.size as f64));
        let (above, below) = (b.op(Op::Ge, &[x, least]), b.op(Op::Le, &[x, end]));
        let inside = b.op(Op::And, &[above, below]);
        (b.clamp(x, 0.0, self.size as f64 - 1.0), inside)
    }
}

fn samples(e: &mut Emit, d: usize, size: usize, outputs: usize) -> Result<Samples> {
    let boxes = Boxes::new(e, d, size, outputs)?;
    let float = boxes.float;
    let ratio = e.ctx.attrs().int("sampling_ratio", 0)?.clamp(0, 1 << 16) as usize;
    let most = if ratio > 0 { ratio } else { size.div_ceil(outputs).max(1) + 1 };
    let regions = boxes.rois.shape()[0];
    let count = (ratio == 0).then(|| {
        e.map("count", float, [regions], |b| {
            let bin = boxes.bin(b);
            let up = b.op(Op::Ceil, &[bin]);
            b.clamp(up, 1.0, most as f64)
        })
    });
    let place = |b: &mut DefBuilder| {
        let count = samples_of(b, count.as_ref(), most, float);
        boxes.place(b, count)
    };
    let shape = [regions, outputs, most];
    let low = e.map("low", DType::I64, shape, |b| {
        let (x, _) = place(b);
        b.op(Op::Floor, &[x])
    });
    let high = e.map("high", DType::I64, shape, |b| {
        let low = b.broadcast(&low, DType::I64);
        let (next, last) =
            (b.number(DType::I64, 1.0), b.constant(Scalar::from_i64(DType::I64, size as i64 - 1)));
        let next = b.plus(low, next);
        b.op(Op::Min, &[next, last])
    });
    let mut weight = |what: &str, upper: bool| {
        e.map(what, float, shape, |b| {
            let (x, inside) = place(b);
            let floor = b.op(Op::Floor, &[x]);
            let (fraction, zero, one) = (b.minus(x, floor), b.number(float, 0.0), b.number(float, 1.0));
            let weight = if upper { fraction } else { b.minus(one, fraction) };
            b.op(Op::Select, &[inside, weight, zero])
        })
    };
    let (low_weight, high_weight) = (weight("low weight", false), weight("high weight", true));
    Ok(Samples { low, high, low_weight, high_weight, count, most })
}

/// How many samples an output of the region has.
fn samples_of(b: &mut DefBuilder, count: Option<&Val>, most: usize, float: DType) -> ExprId {
    match count {
        Some(count) => b.elem(count, &[b.var(0)], float),
        None => b.number(float, most as f64),
    }
}

impl Samples {
    fn taps(&self, b: &mut DefBuilder, at: &[Affine; 3], float: DType) -> Taps {
        let index = |b: &mut DefBuilder, v: &Val| b.elem(v, at, DType::I64);
        let (low, high) = (index(b, &self.low), index(b, &self.high));
        let (w0, w1) = (b.elem(&self.low_weight, at, float), b.elem(&self.high_weight, at, float));
        vec![(low, Some(w0)), (high, Some(w1))]
    }

    /// Whether sample `i` of a region counts, where their number varies.
    fn counts(&self, b: &mut DefBuilder, i: &Affine) -> Option<ExprId> {
        let count = self.count.as_ref()?;
        let count = b.elem(count, &[b.var(0)], DType::I64);
        let i = b.index(i.clone());
        Some(b.op(Op::Lt, &[i, count]))
    }

    fn count(&self, b: &mut DefBuilder, float: DType) -> ExprId {
        samples_of(b, self.count.as_ref(), self.most, float)
    }
}

fn align(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, batch, out) = (e.input(0)?, e.input(2)?, e.result()?);
    require(x.ty.elems() > 0, || "an empty tensor has no regions".into())?;
    let average = match ctx.attrs().str("mode", "avg")? {
        "avg" => true,
        "max" => false,
        other => return Err(crate::error::Error::model(format!("mode '{other}' is not known"))),
    };
    let rows = samples(&mut e, 0, x.shape()[2], out.shape()[2])?;
    let columns = samples(&mut e, 1, x.shape()[3], out.shape()[3])?;
    let float = compute_type(x.dtype());
    e.define("", &out, |b| {
        let (i, j) = (b.reduce("i", rows.most), b.reduce("j", columns.most));
        let taps = [
            rows.taps(b, &[b.var(0), b.var(2), i.clone()], float),
            columns.taps(b, &[b.var(0), b.var(3), j.clone()], float),
        ];
        let image = b.elem(&batch, &[b.var(0)], DType::I64);
        let prefix = [Index::Dynamic(image), Index::Affine(b.var(1))];
        let mut value = if average {
            weighted(b, &x, &prefix, &taps, false, float)
        } else {
            largest(b, &x, &prefix, &taps, float)
        };
        let identity = if average { b.number(float, 0.0) } else { b.constant(Scalar::lowest(float)) };
        for counts in [rows.counts(b, &i), columns.counts(b, &j)].into_iter().flatten() {
            value = b.op(Op::Select, &[counts, value, identity]);
        }
        let acc = b.fold(if average { Fold::Sum } else { Fold::Max }, value);
        if !average {
            return acc;
        }
        let (rows, columns) = (rows.count(b, float), columns.count(b, float));
        let count = b.times(rows, columns);
        b.over(acc, count)
    });
    Ok(())
}

/// The largest of the weighted neighbours, as ONNX defines the mode `max`.
fn largest(b: &mut DefBuilder, x: &Val, prefix: &[Index], taps: &[Taps; 2], float: DType) -> ExprId {
    let mut most = None;
    for (row, row_weight) in &taps[0] {
        for (column, column_weight) in &taps[1] {
            let mut index = prefix.to_vec();
            index.extend([Index::Dynamic(*row), Index::Dynamic(*column)]);
            let mut value = b.elem_at(x, index, float);
            if let (Some(r), Some(c)) = (row_weight, column_weight) {
                let weight = b.times(*r, *c);
                value = b.times(value, weight);
            }
            most = Some(most.map_or(value, |m| b.op(Op::Max, &[m, value])));
        }
    }
    most.unwrap_or_else(|| b.number(float, 0.0))
}

fn infer_max(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (x, rois) = (ctx.ty(0)?, ctx.ty(1)?);
    let pooled = ctx.attrs().get_ints("pooled_shape")?.unwrap_or(&[]);
    let fits = x.rank() == 4 && rois.rank() == 2 && rois.shape[1] == 5 && pooled.len() == 2;
    let sizes = pooled.iter().all(|p| (1..1 << 20).contains(p));
    require(fits && sizes && x.dtype.is_float() && rois.dtype == x.dtype, || {
        format!("regions {rois} of {x} are not defined")
    })?;
    Ok(vec![TensorType::new(x.dtype, [rois.shape[0], x.shape[1], pooled[0] as usize, pooled[1] as usize])])
}

/// The maximum over the elements of the input that lie in each bin of a region; 0 for empty bins.
fn max(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, rois, out) = (e.input(0)?, e.input(1)?, e.result()?);
    let scale = f64::from(ctx.attrs().float("spatial_scale", 1.0)?);
    let float = compute_type(rois.dtype());
    // First and end of each bin, clamped to the input: `[regions, outputs]`.
    let mut bounds = Vec::new();
    for d in 0..2 {
        let (size, outputs) = (x.shape()[2 + d], out.shape()[2 + d]);
        for end in [false, true] {
            bounds.push(e.map("bound", DType::I64, [rois.shape()[0], outputs], |b| {
                let corner = |b: &mut DefBuilder, i: usize| {
                    let c = b.elem(&rois, &[b.var(0), Affine::constant(i as i64)], float);
                    let c = b.times_number(c, scale);
                    let c = b.plus_number(c, 0.5);
                    b.op(Op::Floor, &[c])
                };
                let (first, last) = (corner(b, 2 - d), corner(b, 4 - d));
                let extent = b.minus(last, first);
                let extent = b.plus_number(extent, 1.0);
                let one = b.number(float, 1.0);
                let extent = b.op(Op::Max, &[extent, one]);
                let outputs = b.number(float, outputs as f64);
                let bin = b.over(extent, outputs);
                let o = b.index(b.var(1).offset(i64::from(end)));
                let o = b.cast(float, o);
                let at = b.times(o, bin);
                let at = b.op(if end { Op::Ceil } else { Op::Floor }, &[at]);
                let at = b.plus(at, first);
                b.clamp(at, 0.0, size as f64)
            }));
        }
    }
    e.define("", &out, |b| {
        let (h, w) = (b.reduce("h", x.shape()[2]), b.reduce("w", x.shape()[3]));
        let image = b.elem(&rois, &[b.var(0), Affine::constant(0)], DType::I64);
        let index = vec![
            Index::Dynamic(image),
            Index::Affine(b.var(1)),
            Index::Affine(h.clone()),
            Index::Affine(w.clone()),
        ];
        let mut value = b.elem_at(&x, index, x.dtype());
        let none = b.constant(Scalar::lowest(x.dtype()));
        for (d, at) in [(0, h), (1, w)] {
            let place = [b.var(0), b.var(2 + d)];
            let (from, to) =
                (b.elem(&bounds[2 * d], &place, DType::I64), b.elem(&bounds[2 * d + 1], &place, DType::I64));
            let at = b.index(at);
            let (above, below) = (b.op(Op::Ge, &[at, from]), b.op(Op::Lt, &[at, to]));
            let inside = b.op(Op::And, &[above, below]);
            value = b.op(Op::Select, &[inside, value, none]);
        }
        let acc = b.fold(Fold::Max, value);
        let empty = b.op(Op::Eq, &[acc, none]);
        let zero = b.number(x.dtype(), 0.0);
        b.op(Op::Select, &[empty, zero, acc])
    });
    Ok(())
}
