//! Ensembles of decision trees: every comparison, missing features, sets and shared nodes, as votes of one target, of
//! one of each tree, and of many, against walks that take one node after the other.

use crate::sizes::decode;
use crate::support::onnx::{int, ints, model, node, text, value};
use lmc::base::{DType, Tensor};
use lmc::build::{Build, Silent};
use lmc::run::executor::Executor;
use lmc::target::resolve;
use tract_onnx::pb;

/// Numbers that are drawn.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % end
    }

    /// A number of few, so that equal ones are met.
    fn number(&mut self) -> f64 {
        [-1.5, -0.5, -0.0, 0.0, 0.25, 0.75, 1.0, 3.0, f64::INFINITY, f64::NEG_INFINITY][self.below(10)]
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Child {
    Node(usize),
    Leaf(usize),
}

struct Node {
    feature: usize,
    mode: usize,
    split: f64,
    set: Vec<f64>,
    missing: bool,
    yes: Child,
    no: Child,
}

#[derive(Default)]
struct Ensemble {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// Target and weight.
    leaves: Vec<(usize, f64)>,
    targets: usize,
    aggregate: i64,
}

/// How the targets of leaves are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Targets {
    One,
    OfTrees,
    OfLeaves,
}

const FEATURES: usize = 7;
const ROWS: usize = 5;

impl Ensemble {
    /// Trees of `depth` steps: one way goes on, the other one ends as often as not; sometimes both meet again.
    fn new(draw: &mut Draw, trees: usize, depth: usize, targets: Targets, modes: usize) -> Ensemble {
        let count = if targets == Targets::One { 1 } else { 3 };
        let mut made = Ensemble { targets: count, ..Ensemble::default() };
        for tree in 0..trees {
            let root = made.node(draw, depth, modes, (targets, tree));
            made.roots.push(root);
        }
        made
    }

    fn leaf(&mut self, draw: &mut Draw, (targets, tree): (Targets, usize)) -> Child {
        let target = if targets == Targets::OfLeaves { draw.below(3) } else { tree % self.targets };
        self.leaves.push((target, draw.below(1000) as f64 / 64.0 - 7.0));
        Child::Leaf(self.leaves.len() - 1)
    }

    fn node(&mut self, draw: &mut Draw, depth: usize, modes: usize, of: (Targets, usize)) -> usize {
        let own = self.nodes.len();
        let mode = draw.below(modes);
        let set = (0..draw.below(5)).map(|_| draw.number()).collect();
        let split = if draw.below(30) == 0 { f64::NAN } else { draw.number() };
        let (feature, missing) = (draw.below(FEATURES), draw.below(2) == 0);
        let none = Child::Leaf(0);
        self.nodes.push(Node { feature, mode, split, set, missing, yes: none, no: none });
        let mut children = [none; 2];
        let long = draw.below(2);
        for (way, child) in children.iter_mut().enumerate() {
            let on = depth > 1 && (way == long || (depth < 4 && draw.below(2) == 0));
            *child = match on {
                true => Child::Node(self.node(draw, depth - 1, modes, of)),
                false => self.leaf(draw, of),
            };
        }
        if draw.below(12) == 0 {
            children[1 - long] = children[long];
        }
        [self.nodes[own].yes, self.nodes[own].no] = children;
        own
    }

    fn proto(&self, double: bool) -> pb::ModelProto {
        let mut trees = node("TreeEnsemble", &["x"], "y");
        trees.domain = "ai.onnx.ml".into();
        let of = |f: &dyn Fn(&Node) -> i64| self.nodes.iter().map(f).collect::<Vec<i64>>();
        let id = |c: Child| match c {
            Child::Node(i) | Child::Leaf(i) => i as i64,
        };
        let leaf = |c: Child| i64::from(matches!(c, Child::Leaf(_)));
        let members = self.nodes.iter().filter(|n| n.mode == 6);
        let members: Vec<f64> = members.flat_map(|n| n.set.iter().copied().chain([f64::NAN])).collect();
        let tensor = |name: &str, t: Tensor| {
            let kind = pb::attribute_proto::AttributeType::Tensor as i32;
            let t = Some(lmc::import::to_tensor_proto(name, &t));
            pb::AttributeProto { name: name.into(), t, r#type: kind, ..Default::default() }
        };
        let numbers = |name: &str, values: Vec<f64>| {
            let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let count = [values.len()];
            tensor(name, if double { Tensor::new(count, &values) } else { Tensor::new(count, &narrow) })
        };
        let modes: Vec<u8> = self.nodes.iter().map(|n| n.mode as u8).collect();
        let list = |values: Vec<usize>| values.into_iter().map(|v| v as i64).collect::<Vec<i64>>();
        trees.attribute = vec![
            ints("nodes_featureids", &of(&|n| n.feature as i64)),
            ints("nodes_truenodeids", &of(&|n| id(n.yes))),
            ints("nodes_falsenodeids", &of(&|n| id(n.no))),
            ints("nodes_trueleafs", &of(&|n| leaf(n.yes))),
            ints("nodes_falseleafs", &of(&|n| leaf(n.no))),
            ints("nodes_missing_value_tracks_true", &of(&|n| i64::from(n.missing))),
            tensor("nodes_modes", Tensor::new([modes.len()], &modes)),
            numbers("nodes_splits", self.nodes.iter().map(|n| n.split).collect()),
            numbers("membership_values", members),
            ints("tree_roots", &list(self.roots.clone())),
            ints("leaf_targetids", &list(self.leaves.iter().map(|l| l.0).collect())),
            numbers("leaf_weights", self.leaves.iter().map(|l| l.1).collect()),
            int("n_targets", self.targets as i64),
            int("aggregate_function", self.aggregate),
        ];
        let mut proto = model(vec![trees], &[1, 1], &[1, 1], &[]);
        let kind = if double { 11 } else { 1 };
        if let Some(graph) = &mut proto.graph {
            graph.input = vec![value("x", kind, &[ROWS as i64, FEATURES as i64])];
            graph.output = vec![value("y", kind, &[ROWS as i64, self.targets as i64])];
        }
        proto.opset_import.push(pb::OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 5 });
        proto
    }

    /// The votes on one row. All numbers are exact in both types.
    fn walk(&self, row: &[f64]) -> Vec<f64> {
        let start = [0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY][self.aggregate as usize];
        let mut sums = vec![start; self.targets];
        for &root in &self.roots {
            let mut at = Child::Node(root);
            let leaf = loop {
                let Child::Node(i) = at else { break at };
                let n = &self.nodes[i];
                let x = row[n.feature];
                let holds = match n.mode {
                    0 => x <= n.split,
                    1 => x < n.split,
                    2 => x >= n.split,
                    3 => x > n.split,
                    4 => x == n.split,
                    5 => x != n.split,
                    _ => n.set.contains(&x),
                };
                at = if holds || (n.missing && x.is_nan()) { n.yes } else { n.no };
            };
            let Child::Leaf(leaf) = leaf else { continue };
            let (target, weight) = self.leaves[leaf];
            let sum = &mut sums[target];
            *sum = match self.aggregate {
                2 => sum.min(weight),
                3 => sum.max(weight),
                _ => *sum + weight,
            };
        }
        if self.aggregate == 0 {
            sums.iter_mut().for_each(|s| *s *= 1.0 / self.roots.len() as f64);
        }
        sums
    }
}

fn check(ensemble: &Ensemble, draw: &mut Draw, double: bool, what: &str) {
    let x: Vec<f64> = (0..ROWS * FEATURES)
        .map(|_| if draw.below(8) == 0 { f64::NAN } else { draw.number() + draw.below(2) as f64 / 4.0 })
        .collect();
    let want: Vec<f64> = x.chunks(FEATURES).flat_map(|row| ensemble.walk(row)).collect();
    let narrow: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    let shape = [ROWS, FEATURES];
    let x = if double { Tensor::new(shape, &x) } else { Tensor::new(shape, &narrow) };
    let model = decode(&ensemble.proto(double));
    for (arch, cpu) in [("x86_64", "generic"), ("native", "native"), ("aarch64", "generic")] {
        let target = resolve(arch, cpu).expect("known");
        let built = Build::new("m.onnx").build_model(&model, target.clone(), "m", &Silent);
        let built = built.unwrap_or_else(|e| panic!("{what}: {e}"));
        let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
        let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x)));
        let got = got.unwrap_or_else(|e| panic!("{what}: {e}"));
        let got: Vec<f64> = match got[0].ty.dtype {
            DType::F64 => got[0].to_vec().expect("doubles"),
            _ => got[0].to_vec::<f32>().expect("floats").into_iter().map(f64::from).collect(),
        };
        let close = got.iter().zip(&want).all(|(g, w)| g == w || (g - w).abs() <= 1e-6 * w.abs());
        assert!(close && got.len() == want.len(), "{what}, {arch} {cpu}: {got:?} {want:?}");
    }
}

/// Sizes at which words have 16 and 32 bits, and trees are walked to their ends, or until all have arrived.
#[test]
fn trees_give_what_walks_give() {
    let mut draw = Draw(5);
    let all = [Targets::One, Targets::OfTrees, Targets::OfLeaves];
    for (i, (trees, depth)) in [(1, 1), (2, 3), (7, 12), (25, 6), (9, 40)].into_iter().enumerate() {
        for (j, targets) in all.into_iter().enumerate() {
            let mut ensemble =
                Ensemble::new(&mut draw, trees, depth, targets, if j == i % 3 { 1 } else { 7 });
            // Votes for which nothing is said are infinite then.
            ensemble.aggregate = if targets == Targets::One { i as i64 % 4 } else { (i as i64 + 1) % 2 };
            check(&ensemble, &mut draw, j == 1, &format!("{trees} trees of {depth} steps, {targets:?}"));
        }
    }
}

fn strings(name: &str, values: &[&str]) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Strings as i32;
    let strings = values.iter().map(|v| v.as_bytes().to_vec()).collect();
    pb::AttributeProto { name: name.into(), r#type: kind, strings, ..Default::default() }
}

fn floats(name: &str, values: &[f32]) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Floats as i32;
    pb::AttributeProto { name: name.into(), r#type: kind, floats: values.to_vec(), ..Default::default() }
}

/// A tree of each of two features, which asks whether it is 0.5 at most.
fn stumps() -> Vec<pb::AttributeProto> {
    vec![
        ints("nodes_treeids", &[0, 0, 0, 1, 1, 1]),
        ints("nodes_nodeids", &[0, 1, 2, 0, 1, 2]),
        ints("nodes_featureids", &[0, 0, 0, 1, 0, 0]),
        strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"]),
        floats("nodes_values", &[0.5, 0.0, 0.0, 0.5, 0.0, 0.0]),
        ints("nodes_truenodeids", &[1, 0, 0, 1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0, 2, 0, 0]),
    ]
}

/// What the trees make of `[0, 0]`, `[1, 1]` and `[0, 1]`.
fn gives(op: &str, outputs: &[(&str, i32)], attributes: Vec<pb::AttributeProto>, arch: &str) -> Vec<Tensor> {
    let mut trees = node(op, &["x"], outputs[0].0);
    trees.output = outputs.iter().map(|o| o.0.to_string()).collect();
    trees.domain = "ai.onnx.ml".into();
    trees.attribute = attributes;
    let mut proto = model(vec![trees], &[3, 2], &[1], &[]);
    if let Some(graph) = &mut proto.graph {
        let dims: [&[i64]; 2] = [&[3, 2], &[3]];
        graph.output = outputs.iter().map(|(n, t)| value(n, *t, dims[usize::from(*t == 7)])).collect();
    }
    proto.opset_import.push(pb::OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 3 });
    let target = resolve(arch, if arch == "native" { "native" } else { "generic" }).expect("known");
    let built =
        Build::new("m.onnx").build_model(&decode(&proto), target.clone(), "m", &Silent).expect("builds");
    let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
    let x = Tensor::new([3, 2], &[0.0f32, 0.0, 1.0, 1.0, 0.0, 1.0]);
    executor.and_then(|mut e| e.run(&[x])).expect("runs")
}

fn is_close(got: &Tensor, want: &[f32], what: &str) {
    let got = got.to_vec::<f32>().expect("floats");
    let close = got.len() == want.len() && got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5);
    assert!(close, "{what}: {got:?}, not {want:?}");
}

/// Two classes of which trees vote for one, as ONNX Runtime 1.32 scores them: a logistic transform is there whatever
/// the signs of votes are; votes for the second class leave the first one a score of nothing.
#[test]
fn votes_for_one_of_two_classes() {
    let (mixed, positive) = ([-0.1, 0.4, 0.2, -0.3], [1.5, 0.4, 2.2, 0.3]);
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    type Pairs = [[f32; 2]; 3];
    let of = |x: [f32; 3], f: &dyn Fn(f32) -> [f32; 2]| -> Pairs { x.map(f) };
    let cases: Vec<(i64, [f32; 4], &str, Vec<f32>, [i64; 3], Pairs)> = vec![
        (0, positive, "LOGISTIC", vec![], [1, 1, 1], of([3.7, 0.7, 1.8], &|x| [sigmoid(-x), sigmoid(x)])),
        (0, positive, "LOGISTIC", vec![-0.3], [1, 0, 1], of([3.4, 0.4, 1.5], &|x| [sigmoid(-x), sigmoid(x)])),
        (0, positive, "NONE", vec![], [1, 1, 1], of([3.7, 0.7, 1.8], &|x| [1.0 - x, x])),
        (0, mixed, "LOGISTIC", vec![], [1, 1, 0], of([0.1, 0.1, -0.4], &|x| [sigmoid(-x), sigmoid(x)])),
        (1, positive, "LOGISTIC", vec![-0.3], [1, 1, 1], of([3.7, 0.7, 1.8], &|x| [0.5, sigmoid(x)])),
        (1, mixed, "NONE", vec![0.2], [1, 1, 0], of([0.1, 0.1, -0.4], &|x| [0.0, x])),
        (1, mixed, "SOFTMAX", vec![], [1, 1, 0], of([0.1, 0.1, -0.4], &|x| [sigmoid(-x), sigmoid(x)])),
    ];
    for (id, weights, transform, base, labels, scores) in cases {
        let mut attributes = stumps();
        attributes.extend([
            ints("classlabels_int64s", &[0, 1]),
            ints("class_treeids", &[0, 0, 1, 1]),
            ints("class_nodeids", &[1, 2, 1, 2]),
            ints("class_ids", &[id; 4]),
            floats("class_weights", &weights),
            text("post_transform", transform),
        ]);
        if !base.is_empty() {
            attributes.push(floats("base_values", &base));
        }
        let what = format!("class {id}, {weights:?}, {transform}, {base:?}");
        for arch in ["native", "aarch64"] {
            let got = gives("TreeEnsembleClassifier", &[("l", 7), ("y", 1)], attributes.clone(), arch);
            assert_eq!(got[0].to_vec::<i64>().expect("labels"), labels, "{what}, {arch}");
            is_close(&got[1], &scores.concat(), &what);
        }
    }
}

/// The base is added to the least and the largest vote, too; where nothing votes there is 0.
#[test]
fn the_least_and_the_largest_vote() {
    let least = [1.5, 0.0, 0.0, 2.25, 1.5, 4.25];
    let largest = [3.5, 0.0, 0.0, 4.25, 1.5, 4.25];
    for (fold, want) in [("MIN", least), ("MAX", largest)] {
        let mut attributes = stumps();
        attributes.extend([
            ints("target_treeids", &[0, 0, 1, 1]),
            ints("target_nodeids", &[1, 2, 1, 2]),
            ints("target_ids", &[0, 1, 0, 1]),
            floats("target_weights", &[1.0, 2.0, 3.0, 4.0]),
            floats("base_values", &[0.5, 0.25]),
            int("n_targets", 2),
            text("aggregate_function", fold),
        ]);
        for arch in ["native", "aarch64"] {
            let got = gives("TreeEnsembleRegressor", &[("y", 1)], attributes.clone(), arch);
            is_close(&got[0], &want, fold);
        }
    }
}

/// A leaf that is named once for each class, as sklearn-onnx's `decision_leaf` does it: of one target the first vote
/// counts, of several targets the sum.
#[test]
fn repeated_votes_of_one_target_count_once() {
    for (targets, want) in [(1, vec![4.0f32, 9.0]), (2, vec![5.0, 2.0, 9.5, 3.0])] {
        let mut trees = node("TreeEnsembleRegressor", &["x"], "y");
        trees.domain = "ai.onnx.ml".into();
        let other = targets - 1;
        trees.attribute = vec![
            ints("nodes_treeids", &[0, 0, 0]),
            ints("nodes_nodeids", &[0, 1, 2]),
            ints("nodes_featureids", &[0, 0, 0]),
            strings("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
            floats("nodes_values", &[0.5, 0.0, 0.0]),
            ints("nodes_truenodeids", &[1, 0, 0]),
            ints("nodes_falsenodeids", &[2, 0, 0]),
            ints("target_treeids", &[0; 6]),
            ints("target_nodeids", &[1, 1, 1, 2, 2, 2]),
            ints("target_ids", &[0, 0, other, 0, 0, other]),
            floats("target_weights", &[4.0, 1.0, 2.0, 9.0, 0.5, 3.0]),
            int("n_targets", targets),
        ];
        let mut proto = model(vec![trees], &[1, 1], &[1, 1], &[]);
        if let Some(graph) = &mut proto.graph {
            graph.input = vec![value("x", 1, &[2, 1])];
            graph.output = vec![value("y", 1, &[2, targets])];
        }
        proto.opset_import.push(pb::OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 3 });
        let model = decode(&proto);
        for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
            let target = resolve(arch, cpu).expect("known");
            let built =
                Build::new("m.onnx").build_model(&model, target.clone(), "m", &Silent).expect("builds");
            let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
            let x = Tensor::new([2, 1], &[0.0f32, 1.0]);
            let got = executor.and_then(|mut e| e.run(&[x])).expect("runs");
            assert_eq!(got[0].to_vec::<f32>().expect("floats"), want, "{targets} targets, {arch}");
        }
    }
}

/// A tree as tensors, as Hummingbird writes it: each step down asks for a feature by its place, and uses the place again
/// for the next one. A walk along all uses of the places would not end.
#[test]
fn steps_down_a_deep_tree() {
    const STEPS: usize = 40;
    let features: Vec<i64> = (0..64).map(|i| (i * 5 + 3) % 8).collect();
    let mut nodes = Vec::new();
    for step in 0..STEPS {
        let name = |what: &str, step: usize| format!("{what}{step}");
        let place = if step == 0 { "root".to_string() } else { name("place", step - 1) };
        let mut add = |op: &str, inputs: &[&str], output: &str, attribute: Option<(&str, i64)>| -> String {
            let output = name(output, step);
            let mut node = node(op, inputs, &output);
            node.attribute.extend(attribute.map(|(name, value)| int(name, value)));
            nodes.push(node);
            output
        };
        let feature = add("Gather", &["features", &place], "feature", None);
        let asked = add("GatherElements", &["x", &feature], "asked", Some(("axis", 1)));
        let over = add("Greater", &[&asked, "half"], "over", None);
        let over = add("Cast", &[&over], "right", Some(("to", 7)));
        let twice = add("Mul", &[&place, "two"], "twice", None);
        let next = add("Add", &[&twice, &over], "next", None);
        add("Mod", &[&next, "all"], "place", None);
    }
    let mut last = node("Cast", &[&format!("place{}", STEPS - 1)], "y");
    last.attribute.push(int("to", 1));
    nodes.push(last);
    let list = |n: i64| Tensor::new([1], &[n]);
    let constants = [
        ("root", Tensor::new([4, 1], &[0i64, 1, 2, 3])),
        ("features", Tensor::new([64], &features)),
        ("half", Tensor::scalar(0.0f32)),
        ("two", list(2)),
        ("all", list(64)),
    ];
    let x: Vec<f32> = (0..32).map(|i| ((i * 37 + 11) % 23) as f32 - 11.5).collect();
    let walk = |row: usize| {
        let step = |place: usize, _| {
            let over = x[row * 8 + features[place] as usize] > 0.0;
            (2 * place + usize::from(over)) % 64
        };
        (0..STEPS).fold(row, step) as f32
    };
    let want = (0..4).map(walk).collect();
    crate::found::gives(nodes, [4, 8], &constants, &[(x.clone(), Some(([4, 1], want)))]);
}
