//! Faults that random graphs found, each as its smallest graph.

use super::maker::Maker;
use super::{case, difference, here};
use crate::support::scratch;
use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::Attr;
use lmc::run::reference::tract;

/// Compares a graph's results on this machine with tract's.
fn agrees(name: &str, m: Maker) {
    let case = case(&scratch(name), 1, m);
    let want = tract(&case.model, &case.inputs).unwrap_or_else(|e| panic!("{e}"));
    for cpu in ["generic", "native"] {
        assert_eq!(difference(&here(&case, cpu).expect("compiled"), &want), None, "{cpu}");
    }
}

/// Found by a random graph: a kernel reads and writes interleaved parts of one buffer.
#[test]
fn a_value_beside_what_is_computed_from_it() {
    let mut m = Maker::new(1, 13);
    let data = m.data(DType::F32, &[8, 1, 16]);
    let x = m.input(data);
    let y = m.one("Sinh", &[x], &[]).expect("a node");
    let z = m.one("Tanh", &[y], &[]).expect("a node");
    m.one("Concat", &[z, y], &[("axis", Attr::Int(1))]).expect("a node");
    agrees("random_beside", m);
}

/// Found by a Scan: a part of a concatenation is computed from another part, and the whole is copied.
#[test]
fn a_part_computed_from_another_part_of_what_is_copied() {
    let mut m = Maker::new(1, 13);
    let (data, beside) = (m.data(DType::F32, &[1, 1, 16]), m.data(DType::F32, &[1, 2, 16]));
    let (x, w) = (m.input(data), m.input(beside));
    let y = m.one("Sinh", &[x], &[]).expect("a node");
    let z = m.one("Tanh", &[y], &[]).expect("a node");
    let parts = m.one("Concat", &[z, y], &[("axis", Attr::Int(1))]).expect("a node");
    m.one("Concat", &[w, parts], &[("axis", Attr::Int(0))]).expect("a node");
    agrees("random_part", m);
}

/// Found by a forest of trees: the same, in the arena, where a part in front is written last.
#[test]
fn a_part_in_front_of_what_it_is_computed_from() {
    let mut m = Maker::new(1, 13);
    let (data, beside) = (m.data(DType::F32, &[1, 1]), m.data(DType::F32, &[1, 2]));
    let (x, w) = (m.input(data), m.input(beside));
    let y = m.one("Sinh", &[x], &[]).expect("a node");
    let z = m.one("Tanh", &[y], &[]).expect("a node");
    let parts = m.one("Concat", &[z, y], &[("axis", Attr::Int(1))]).expect("a node");
    let all = m.one("Concat", &[w, parts], &[("axis", Attr::Int(0))]).expect("a node");
    m.one("ReduceSum", &[all], &[]).expect("a node");
    agrees("random_front", m);
}

/// Found by a comparison with ONNX Runtime: only the first output of Unique is wanted.
#[test]
fn unique_without_its_other_outputs() {
    let mut m = Maker::new(1, 13);
    let x = m.input(Tensor::new([6], &[3i64, 1, 3, 2, 1, 3]));
    m.node("Unique", &[Some(x)], &[], 1).expect("a node");
    let case = case(&scratch("random_unique"), 1, m);
    let got = here(&case, "native").expect("compiled");
    assert_eq!(got[0].to_i64s(), Some(vec![1, 2, 3]));
}

/// Found by `com.microsoft.Unique`: there is nothing to choose from, and nothing to gather.
#[test]
fn results_of_any_size_are_empty_where_nothing_can_be_chosen() {
    let mut m = Maker::new(1, 13);
    let (x, flags) = (m.input(Tensor::new([0, 5], &[0f32; 0])), m.data(DType::Bool, &[0]));
    let flags = m.input(flags);
    m.node("Unique", &[Some(x)], &[], 4).expect("a node");
    m.node("Unique", &[Some(x)], &[("axis", Attr::Int(0))], 1).expect("a node");
    m.one("NonZero", &[x], &[]).expect("a node");
    m.one("Compress", &[x, flags], &[]).expect("a node");
    let (boxes, most) = (m.input(Tensor::new([1, 0, 4], &[0f32; 0])), m.ints(&[3]));
    let scores = m.input(Tensor::new([1, 2, 0], &[0f32; 0]));
    m.one("NonMaxSuppression", &[boxes, scores, most], &[]).expect("a node");
    let case = case(&scratch("random_nothing"), 1, m);
    let shapes: Vec<Vec<usize>> =
        here(&case, "native").expect("compiled").into_iter().map(|t| t.ty.shape).collect();
    let want: [&[usize]; 8] = [&[0], &[0], &[0], &[0], &[0, 5], &[2, 0], &[0], &[0, 3]];
    assert_eq!(shapes, want);
}

/// Found beside it: a kernel that would read elements that are not there is no internal error.
#[test]
fn indices_into_nothing_are_refused() {
    let (x, at) = (TensorType::new(DType::F32, [0, 5]), TensorType::new(DType::I64, [2, 1]));
    for op in ["Gather", "GatherElements", "GatherND"] {
        let mut m = Maker::new(1, 13);
        let (x, at) = (m.data(x.dtype, &x.shape), m.data(at.dtype, &at.shape));
        let (x, at) = (m.input(x), m.input(at));
        assert!(m.one(op, &[x, at], &[]).is_none(), "{op}");
        assert!(m.refused[0].contains("every index lies outside of data f32[0,5]"), "{:?}", m.refused);
    }
}

/// Found by a convolution of one dimension as two: a copy's output lacks the dimension that padding is tested
/// against.
#[test]
fn padding_of_a_dimension_of_one_point() {
    let mut m = Maker::new(1, 13);
    let (data, weights) = (m.data(DType::F32, &[1, 8, 31]), m.data(DType::F32, &[1, 1, 1, 5]));
    let (x, w, axes) = (m.input(data), m.constant(weights), m.ints(&[2]));
    let most = m.one("ReduceMax", &[x], &[]).expect("a node");
    let most = m.one("Unsqueeze", &[most, axes], &[]).expect("a node");
    let pads = Attr::Ints(vec![0, 2, 0, 2]);
    m.one("Conv", &[most, w], &[("pads", pads)]).expect("a node");
    agrees("random_unit_padding", m);
}

/// Found by a slice of a pad: the same where the value is a digit of nothing.
#[test]
fn padding_around_a_single_row() {
    let mut m = Maker::new(1, 13);
    let data = m.data(DType::F32, &[25, 1]);
    let (x, first, sides) = (m.input(data), m.constant(Tensor::scalar(0i64)), m.ints(&[1, 2]));
    let (from, to) = (m.ints(&[1]), m.ints(&[4]));
    let row = m.one("Gather", &[x, first], &[]).expect("a node");
    let wide = m.one("Pad", &[row, sides], &[]).expect("a node");
    m.one("Slice", &[wide, from, to], &[]).expect("a node");
    agrees("random_row_padding", m);
}

/// Found by channels that are padded before they are normalized: a square of what lies outside is no zero.
#[test]
fn variances_of_padded_rows() {
    let mut m = Maker::new(1, 13);
    let (data, sides) = (m.data(DType::F32, &[1, 2, 6, 5]), m.ints(&[0, 0, 2, 1, 0, 0, 1, 2]));
    let (scale, bias) = (m.data(DType::F32, &[2]), m.data(DType::F32, &[2]));
    let (x, scale, bias) = (m.input(data), m.constant(scale), m.constant(bias));
    let x = m.one("Sigmoid", &[x], &[]).expect("a node");
    let wide = m.one("Pad", &[x, sides], &[]).expect("a node");
    m.one("InstanceNormalization", &[wide, scale, bias], &[]).expect("a node");
    agrees("random_padded_variance", m);
}

/// Found by a damaged weight: of a row of NaNs some position is chosen, not one outside of it.
#[test]
fn positions_of_extremes_of_what_is_no_number() {
    let nan = f32::NAN;
    let rows = [[nan; 5], [nan, 1.0, 2.0, 3.0, nan], [4.0, 1.0, 4.0, 1.0, 2.0]];
    for (op, last, nans, numbers) in
        [("ArgMax", 0, 0, 0), ("ArgMax", 1, 4, 2), ("ArgMin", 0, 0, 1), ("ArgMin", 1, 4, 3)]
    {
        for (axis, transposed) in [(1, false), (0, true)] {
            let mut m = Maker::new(1, 13);
            let at = |i: usize| if transposed { rows[i % 3][i / 3] } else { rows[i / 5][i % 5] };
            let data: Vec<f32> = (0..15).map(at).collect();
            let x = m.input(Tensor::new(if transposed { [5, 3] } else { [3, 5] }, &data));
            let attrs = [("axis", axis), ("keepdims", 0), ("select_last_index", last)];
            m.one(op, &[x], &attrs.map(|(name, i)| (name, Attr::Int(i)))).expect("a node");
            let case = case(&scratch("random_positions"), 1, m);
            for cpu in ["generic", "native"] {
                let got = here(&case, cpu).expect("compiled")[0].to_i64s().expect("integers");
                assert_eq!(got, [nans, nans, numbers], "{op} {last} along {axis}, {cpu}");
            }
        }
    }
}

/// The boxes kept, by the definition, in f32: a box is a corner and the one across, in any order.
fn kept_boxes(boxes: &[f32], scores: &[f32], most: usize, limit: f32) -> Vec<i64> {
    let corners = |i: i64| {
        let b = &boxes[4 * i as usize..][..4];
        let (low, high) = (|a, b| if a < b { a } else { b }, |a, b| if a > b { a } else { b });
        [low(b[0], b[2]), low(b[1], b[3]), high(b[0], b[2]), high(b[1], b[3])]
    };
    let overlap = |a: [f32; 4], b: [f32; 4]| {
        let area = |b: [f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
        let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
        let common = side(0) * side(1);
        let union = area(a) + area(b) - common;
        if union > 0.0 { common / union } else { 0.0 }
    };
    let mut order: Vec<i64> = (0..scores.len() as i64).collect();
    order.sort_by(|&i, &j| scores[j as usize].total_cmp(&scores[i as usize]).then(i.cmp(&j)));
    let mut kept: Vec<i64> = Vec::new();
    for i in order {
        if kept.len() < most && !kept.iter().any(|&k| overlap(corners(k), corners(i)) > limit) {
            kept.push(i);
        }
    }
    kept
}

/// Found by a detector that was slow: boxes are compared eight at a time, and few quotients are computed.
#[test]
fn suppressed_boxes_are_those_of_the_definition() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e-30, 1e30];
    let limits = [0.0, 0.25, 0.5, 1.0 / 3.0, 1.0, -0.5, f32::NAN];
    for (seed, limit) in (1..).zip(limits.into_iter().flat_map(|l| [l; 2])) {
        let mut m = Maker::new(seed, 13);
        let (n, most) = (m.random.between(200, 400) as usize, m.random.between(1, 300));
        let mut boxes: Vec<f32> = (0..4 * n).map(|_| m.random.between(0, 12) as f32 / 3.0).collect();
        for _ in 0..n / 3 {
            let at = m.random.between(0, 4 * n as i64 - 1) as usize;
            boxes[at] = m.random.pick(&odd);
        }
        let scores: Vec<f32> = (0..2 * n).map(|_| m.random.between(1, 90) as f32).collect();
        let want: Vec<i64> = (0..2)
            .flat_map(|class| {
                let kept = kept_boxes(&boxes, &scores[class * n..][..n], most as usize, limit);
                kept.into_iter().flat_map(move |i| [0, class as i64, i])
            })
            .collect();
        let places = m.input(Tensor::new([1, n, 4], &boxes));
        let scores = m.input(Tensor::new([1, 2, n], &scores));
        let (most, limit) = (m.ints(&[most]), m.number(limit));
        m.one("NonMaxSuppression", &[places, scores, most, limit], &[]).expect("a node");
        let case = case(&scratch("random_suppressed"), seed, m);
        for cpu in ["generic", "x86-64-v3", "native"] {
            let got = here(&case, cpu).expect("compiled")[0].to_i64s();
            assert_eq!(got.as_ref(), Some(&want), "seed {seed}, {cpu}");
        }
    }
}
