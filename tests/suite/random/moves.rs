//! Recipes of operators that move elements.

use super::maker::{Maker, V};
use super::recipes::Recipe;
use lmc::base::{DType, Tensor};
use lmc::graph::Attr;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("Transpose", transpose),
    ("Reshape", reshape),
    ("Flatten", flatten),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
    ("Slice", slice),
    ("Concat", concat),
    ("Split", split),
    ("Pad", pad),
    ("Tile", tile),
    ("Expand", expand),
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("ScatterElements", scatter),
    ("ScatterND", scatter_nd),
    ("DepthToSpace", depth_to_space),
    ("SpaceToDepth", space_to_depth),
    ("Trilu", trilu),
    ("ReverseSequence", reverse),
    ("OneHot", one_hot),
];

fn transpose(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let rank = m.shape(x).len();
    let perm = m.random.order(rank).into_iter().map(|a| a as i64).collect();
    m.one("Transpose", &[x], &[("perm", Attr::Ints(perm))]).map(drop)
}

/// Another shape for as many elements.
fn reshape(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let shape = m.shape(x);
    let mut to: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    for _ in 0..m.random.between(1, 3) {
        let at = m.random.below(to.len() + 1);
        let joined = at + 1 < to.len() && m.random.chance(50);
        let factor = to.get(at).and_then(|&d| [2, 3, 4, 7].into_iter().find(|f| d > 0 && d % f == 0));
        match (joined, factor) {
            (true, _) => to[at] *= to.remove(at + 1),
            (false, Some(f)) => {
                to[at] /= f;
                to.insert(at, f);
            }
            _ => to.insert(at, 1),
        }
    }
    if !to.contains(&0) && !to.is_empty() && m.random.chance(40) {
        let at = m.random.below(to.len());
        to[at] = -1;
    } else if to.contains(&0) && shape.iter().zip(&to).any(|(&a, &b)| b == 0 && a != 0) {
        return None;
    }
    if to.iter().enumerate().any(|(i, &d)| d == 0 && i >= shape.len()) {
        return None;
    }
    let to = m.ints(&to);
    m.one("Reshape", &[x, to], &[]).map(drop)
}

fn flatten(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let axis = m.random.between(0, m.shape(x).len() as i64);
    m.one("Flatten", &[x], &[("axis", Attr::Int(axis))]).map(drop)
}

/// Axes as an attribute before opset 13.
pub fn with_axes(m: &mut Maker, op: &str, x: V, axes: &[i64]) -> Option<V> {
    if m.opset < 13 {
        return m.one(op, &[x], &[("axes", Attr::Ints(axes.to_vec()))]);
    }
    let axes = m.ints(axes);
    m.one(op, &[x, axes], &[])
}

fn squeeze(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let ones =
        m.shape(x).iter().enumerate().filter(|(_, d)| **d == 1).map(|(i, _)| i as i64).collect::<Vec<_>>();
    if ones.is_empty() {
        return None;
    }
    let axis = m.random.pick(&ones);
    with_axes(m, "Squeeze", x, &[axis]).map(drop)
}

fn unsqueeze(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let axis = m.random.between(0, m.shape(x).len() as i64);
    with_axes(m, "Unsqueeze", x, &[axis]).map(drop)
}

fn slice(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let shape = m.shape(x);
    let count = m.random.between(1, shape.len() as i64) as usize;
    let order = m.random.order(shape.len());
    let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
    for &axis in &order[..count] {
        let d = shape[axis] as i64;
        let back = m.opset >= 10 && m.random.chance(25);
        let step = if m.opset >= 10 { m.random.pick(&[1, 1, 1, 2, 3]) } else { 1 };
        let first = m.random.between(0, (d - 1).max(0));
        let last = m.random.between(first, d);
        if back {
            starts.push(m.random.pick(&[last, -1, i64::MAX]));
            ends.push(m.random.pick(&[first - d - 1, i64::MIN]));
        } else {
            starts.push(m.random.pick(&[first, first, first - d]));
            ends.push(m.random.pick(&[last, last, i64::MAX]));
        }
        axes.push(if m.random.chance(30) { axis as i64 - shape.len() as i64 } else { axis as i64 });
        steps.push(if back { -step } else { step });
    }
    if m.opset < 10 {
        axes.iter_mut().for_each(|a| *a = a.rem_euclid(shape.len() as i64));
        let list = [("starts", Attr::Ints(starts)), ("ends", Attr::Ints(ends)), ("axes", Attr::Ints(axes))];
        return m.one("Slice", &[x], &list).map(drop);
    }
    let inputs = [x, m.ints(&starts), m.ints(&ends), m.ints(&axes), m.ints(&steps)];
    m.one("Slice", &inputs, &[]).map(drop)
}

fn concat(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let shape = m.shape(x);
    let axis = m.random.below(shape.len());
    let mut inputs = vec![x];
    for _ in 0..m.random.between(1, 3) {
        let mut other = shape.clone();
        other[axis] = m.dim();
        let same =
            |s: &[usize]| s.len() == shape.len() && (0..s.len()).all(|i| i == axis || s[i] == shape[i]);
        inputs.push(m.value(DType::F32, same, &other));
    }
    if m.random.chance(25) {
        // A value beside what is computed from it, within one buffer.
        inputs.push(m.one("Tanh", &[x], &[])?);
    }
    let at = m.random.below(inputs.len());
    inputs.swap(0, at);
    let axis =
        if m.opset >= 11 && m.random.chance(30) { axis as i64 - shape.len() as i64 } else { axis as i64 };
    m.one("Concat", &inputs, &[("axis", Attr::Int(axis))]).map(drop)
}

fn split(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let shape = m.shape(x);
    let axis = m.random.below(shape.len());
    let parts = m.random.between(2, 4);
    let size = shape[axis] as i64;
    if size < parts {
        return None;
    }
    let mut sizes = vec![1; parts as usize];
    for _ in 0..size - parts {
        let at = m.random.below(parts as usize);
        sizes[at] += 1;
    }
    let axis = ("axis", Attr::Int(axis as i64));
    if m.opset < 13 {
        return m.node("Split", &[Some(x)], &[axis, ("split", Attr::Ints(sizes))], parts as usize).map(drop);
    }
    if m.opset >= 18 && m.random.chance(50) {
        let each = (size + parts - 1) / parts;
        if each * (parts - 1) >= size {
            return None;
        }
        return m
            .node("Split", &[Some(x)], &[axis, ("num_outputs", Attr::Int(parts))], parts as usize)
            .map(drop);
    }
    let sizes = m.ints(&sizes);
    m.node("Split", &[Some(x), Some(sizes)], &[axis], parts as usize).map(drop)
}

fn pad(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let shape = m.shape(x);
    if shape.contains(&0) {
        return None;
    }
    let mode = m.random.pick(&["constant", "constant", "reflect", "edge", "wrap"]);
    if mode == "wrap" && m.opset < 19 {
        return None;
    }
    let mut pads = vec![0i64; 2 * shape.len()];
    for (i, pad) in pads.iter_mut().enumerate() {
        let d = shape[i % shape.len()] as i64;
        *pad = match mode {
            "constant" if d > 2 && m.random.chance(15) => -1,
            "constant" | "edge" => m.random.between(0, 3),
            "wrap" => m.random.between(0, d.min(3)),
            _ => m.random.between(0, (d - 1).min(3)),
        };
    }
    let mode = ("mode", Attr::Str(mode.into()));
    if m.opset < 11 {
        return m
            .one("Pad", &[x], &[mode, ("pads", Attr::Ints(pads)), ("value", Attr::Float(0.5))])
            .map(drop);
    }
    let pads = m.ints(&pads);
    let fill = m.number(0.5);
    let given = m.random.chance(50);
    m.node("Pad", &[Some(x), Some(pads), given.then_some(fill)], &[mode], 1).map(drop)
}

fn tile(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let repeats: Vec<i64> = m.shape(x).iter().map(|_| m.random.pick(&[1, 1, 2, 3])).collect();
    let repeats = m.ints(&repeats);
    m.one("Tile", &[x, repeats], &[]).map(drop)
}

fn expand(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let mut to: Vec<i64> =
        m.shape(x).iter().map(|&d| if d == 1 && m.random.chance(60) { 5 } else { d as i64 }).collect();
    to.iter_mut().for_each(|d| {
        if m.random.chance(20) && *d != 0 {
            *d = if *d == 5 { 5 } else { 1 };
        }
    });
    if m.random.chance(40) {
        to.insert(0, 3);
    }
    let to = m.ints(&to);
    m.one("Expand", &[x, to], &[]).map(drop)
}

/// Indices below `size`, some counted from the end.
fn indices(m: &mut Maker, shape: &[usize], size: usize, negative: bool) -> V {
    let n: usize = shape.iter().product();
    let lo = if negative { -(size as i64) } else { 0 };
    let list: Vec<i64> = (0..n).map(|_| m.random.between(lo, size as i64 - 1)).collect();
    let tensor = Tensor::new(shape, &list);
    if m.random.chance(50) { m.input(tensor) } else { m.constant(tensor) }
}

fn axis_with_elements(m: &mut Maker, x: V) -> Option<usize> {
    let shape = m.shape(x);
    let axis = m.random.below(shape.len());
    (shape[axis] > 0).then_some(axis)
}

fn gather(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let axis = axis_with_elements(m, x)?;
    let size = m.shape(x)[axis];
    let rank = m.random.below(3);
    let places: Vec<usize> = (0..rank).map(|_| m.random.between(1, 5) as usize).collect();
    let negative = m.opset >= 11;
    let at = indices(m, &places, size, negative);
    m.one("Gather", &[x, at], &[("axis", Attr::Int(axis as i64))]).map(drop)
}

fn gather_elements(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let axis = axis_with_elements(m, x)?;
    let mut places = m.shape(x);
    let size = places[axis];
    places[axis] = m.random.between(1, 5) as usize;
    let at = indices(m, &places, size, true);
    m.one("GatherElements", &[x, at], &[("axis", Attr::Int(axis as i64))]).map(drop)
}

fn gather_nd(m: &mut Maker) -> Option<()> {
    let x = m.any(2);
    let shape = m.shape(x);
    let least = *shape[..2].iter().min()?;
    if least == 0 {
        return None;
    }
    let at = indices(m, &[3, 2], least, false);
    m.one("GatherND", &[x, at], &[]).map(drop)
}

fn scatter(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let axis = axis_with_elements(m, x)?;
    let shape = m.shape(x);
    let mut places = shape.clone();
    places[axis] = m.random.between(1, shape[axis].min(4) as i64) as usize;
    // Each index once along the axis: the order of writes is not defined otherwise.
    let order = m.random.order(shape[axis]);
    let inner: usize = places[axis + 1..].iter().product();
    let n: usize = places.iter().product();
    let list: Vec<i64> = (0..n).map(|i| order[i / inner.max(1) % places[axis]] as i64).collect();
    let at = m.constant(Tensor::new(places.clone(), &list));
    let updates = m.fresh(DType::F32, &places);
    m.one("ScatterElements", &[x, at, updates], &[("axis", Attr::Int(axis as i64))]).map(drop)
}

fn scatter_nd(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let shape = m.shape(x);
    if shape[0] == 0 {
        return None;
    }
    let count = m.random.between(1, shape[0].min(4) as i64) as usize;
    let rows: Vec<i64> = m.random.order(shape[0])[..count].iter().map(|&i| i as i64).collect();
    let at = m.input(Tensor::new([count, 1], &rows));
    let mut block = vec![count];
    block.extend(&shape[1..]);
    let updates = m.fresh(DType::F32, &block);
    m.one("ScatterND", &[x, at, updates], &[]).map(drop)
}

fn depth_to_space(m: &mut Maker) -> Option<()> {
    let b = m.random.between(2, 3) as usize;
    let shape = [1, b * b * m.random.between(1, 3) as usize, m.dim(), m.dim()];
    let x = m.value(DType::F32, |s| s.len() == 4 && s[1] % (b * b) == 0 && s[1] > 0, &shape);
    let mode = m.random.pick(&["DCR", "CRD"]);
    let mut attrs = vec![("blocksize", Attr::Int(b as i64))];
    if m.opset >= 11 {
        attrs.push(("mode", Attr::Str(mode.into())));
    }
    m.one("DepthToSpace", &[x], &attrs).map(drop)
}

fn space_to_depth(m: &mut Maker) -> Option<()> {
    let b = m.random.between(2, 3) as usize;
    let shape = [2, m.dim(), b * m.random.between(1, 4) as usize, b * m.random.between(1, 5) as usize];
    let x = m.value(DType::F32, |s| s.len() == 4 && s[2] % b == 0 && s[3] % b == 0, &shape);
    m.one("SpaceToDepth", &[x], &[("blocksize", Attr::Int(b as i64))]).map(drop)
}

fn trilu(m: &mut Maker) -> Option<()> {
    let x = m.any(2);
    let by = m.random.between(-3, 3);
    let by = m.constant(Tensor::scalar(by));
    let upper = m.random.between(0, 1);
    m.one("Trilu", &[x, by], &[("upper", Attr::Int(upper))]).map(drop)
}

fn reverse(m: &mut Maker) -> Option<()> {
    let x = m.any(2);
    let shape = m.shape(x);
    if shape[0] == 0 {
        return None;
    }
    let lengths: Vec<i64> = (0..shape[1]).map(|_| m.random.between(1, shape[0] as i64)).collect();
    let lengths = m.input(Tensor::new([shape[1]], &lengths));
    m.one("ReverseSequence", &[x, lengths], &[("time_axis", Attr::Int(0)), ("batch_axis", Attr::Int(1))])
        .map(drop)
}

fn one_hot(m: &mut Maker) -> Option<()> {
    let (a, b) = (m.dim(), m.dim());
    let at = indices(m, &[a, b], 6, true);
    let (depth, values) = (m.constant(Tensor::scalar(6i64)), m.fresh(DType::F32, &[2]));
    let axis = m.random.between(-1, 2);
    m.one("OneHot", &[at, depth, values], &[("axis", Attr::Int(axis))]).map(drop)
}
