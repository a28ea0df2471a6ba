//! Builds a random graph node by node: every node is typed by its row of the operator table, and
//! the graph is written as an ONNX model with its inputs.

use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::{Attr, Attrs, Graph, Node, ValueId, check_size};
use lmc::import::encode_tensor;
use lmc::ops::{Ctx, find};
use lmc::scalar::Scalar;
use prost::Message;
use tract_onnx::pb;

/// Numbers from a seed (splitmix).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// From `lo` to `hi`, both included.
    pub fn range(&mut self, lo: i64, hi: i64) -> i64 {
        lo + self.below((hi - lo + 1) as usize) as i64
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// The numbers below `n` in some order.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut list: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| list.swap(i, self.below(i + 1)));
        list
    }
}

/// A value of the graph.
pub type V = ValueId;

/// Operators whose result jumps where their input changes a little: they get exact inputs only,
/// since different orders of summing give different last bits.
const JUMPS: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "BitCast",
    "Cast",
    "CastLike",
    "Ceil",
    "DynamicQuantizeLinear",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Hardmax",
    "Less",
    "LessOrEqual",
    "MaxRoiPool",
    "Mod",
    "NonZero",
    "QuantizeLinear",
    "RoiAlign",
    "Round",
    "Shrink",
    "Sign",
    "ThresholdedRelu",
    "TopK",
    "Unique",
    "IsInf",
    "IsNaN",
    "ai.onnx.ml.Binarizer",
    "com.microsoft.QuantizeLinear",
    "com.microsoft.DynamicQuantizeMatMul",
    "DynamicQuantizeMatMul",
    "GridSample",
];

/// Operators that give the very bits of their inputs.
const EXACT: &[&str] = &[
    "Abs",
    "ArgMax",
    "ArgMin",
    "Ceil",
    "Clip",
    "Compress",
    "Concat",
    "DepthToSpace",
    "Equal",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Greater",
    "Identity",
    "Less",
    "Max",
    "MaxPool",
    "Min",
    "Neg",
    "Pad",
    "ReduceMax",
    "ReduceMin",
    "Relu",
    "Reshape",
    "ReverseSequence",
    "Round",
    "ScatterElements",
    "ScatterND",
    "Sign",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Not",
];

/// A graph that grows.
pub struct Maker {
    pub random: Random,
    /// The opset of ai.onnx.
    pub opset: i64,
    pub graph: Graph,
    /// Whether a value has no rounding in it.
    exact: Vec<bool>,
    /// Values that later nodes may read.
    live: Vec<V>,
    read: Vec<bool>,
    nodes: Vec<pb::NodeProto>,
    given: Vec<(V, Tensor)>,
    /// Why the table refuses a node that was made to be valid.
    pub refused: Vec<String>,
    /// Whether an operator has inputs that only its inference was asked about.
    pub guessed: bool,
}

impl Maker {
    /// An empty graph.
    pub fn new(seed: u64, opset: i64) -> Maker {
        Maker {
            random: Random(seed),
            opset,
            graph: Graph::default(),
            exact: Vec::new(),
            live: Vec::new(),
            read: Vec::new(),
            nodes: Vec::new(),
            given: Vec::new(),
            refused: Vec::new(),
            guessed: false,
        }
    }

    /// The operators of the graph, in order.
    pub fn operators(&self) -> Vec<String> {
        self.nodes.iter().map(|n| full(&n.domain, &n.op_type)).collect()
    }

    pub fn ty(&self, v: V) -> &TensorType {
        &self.graph.value(v).ty
    }

    pub fn shape(&self, v: V) -> Vec<usize> {
        self.ty(v).shape.clone()
    }

    /// A dimension: often odd or 1, seldom 0.
    pub fn dim(&mut self) -> usize {
        self.random.pick(&[1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31, 33])
    }

    /// A shape of so many dimensions and not many elements.
    pub fn extents(&mut self, rank: usize) -> Vec<usize> {
        let mut shape: Vec<usize> = (0..rank).map(|_| self.dim()).collect();
        while shape.iter().product::<usize>() > 6000 {
            let largest = (0..rank).max_by_key(|&i| shape[i]).expect("a dimension");
            shape[largest] = shape[largest] / 2 + 1;
        }
        if rank > 0 && self.random.chance(1) {
            shape[self.random.below(rank)] = 0;
        }
        shape
    }

    /// Elements of a type: floats are multiples of 1/64 of at most 2, wide integers are small.
    pub fn data(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let ty = TensorType::new(dtype, shape);
        let mut bytes = Vec::with_capacity(ty.bytes());
        for _ in 0..ty.elems() {
            let scalar = match dtype {
                d if d.is_float() => Scalar::from_f64(d, self.random.range(-128, 128) as f64 / 64.0),
                DType::Bool => Scalar::from_i64(dtype, self.random.range(0, 1)),
                DType::U8 => Scalar::from_i64(dtype, self.random.range(0, 255)),
                DType::I8 => Scalar::from_i64(dtype, self.random.range(-128, 127)),
                DType::U16 | DType::U32 | DType::U64 => Scalar::from_i64(dtype, self.random.range(0, 20)),
                _ => Scalar::from_i64(dtype, self.random.range(-9, 9)),
            };
            bytes.extend_from_slice(&scalar.bits.to_le_bytes()[..dtype.size()]);
        }
        Tensor::from_bytes(ty, bytes).expect("as many bytes")
    }

    fn added(&mut self, id: V, exact: bool) -> V {
        self.exact.push(exact);
        self.read.push(false);
        id
    }

    /// An input of the model.
    pub fn input(&mut self, tensor: Tensor) -> V {
        let id = self.graph.add_value(format!("x{}", self.exact.len()), tensor.ty.clone());
        self.given.push((id, tensor));
        self.added(id, true)
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> V {
        let id = self.graph.add_constant(format!("c{}", self.exact.len()), tensor);
        self.added(id, true)
    }

    /// A constant list of integers.
    pub fn ints(&mut self, values: &[i64]) -> V {
        self.constant(Tensor::new([values.len()], values))
    }

    /// A constant number.
    pub fn number(&mut self, value: f32) -> V {
        self.constant(Tensor::scalar(value))
    }

    /// Constant weights, scaled for sums of `terms` products.
    pub fn weights(&mut self, shape: &[usize], terms: usize) -> V {
        let tensor = self.data(DType::F32, shape);
        let scale = 1.0 / (terms.max(1) as f32).sqrt();
        let values: Vec<f32> = tensor.to_vec::<f32>().expect("floats").iter().map(|v| v * scale).collect();
        self.constant(Tensor::new(shape, &values))
    }

    /// A new input or, less often, a constant.
    pub fn fresh(&mut self, dtype: DType, shape: &[usize]) -> V {
        let tensor = self.data(dtype, shape);
        if self.random.chance(75) { self.input(tensor) } else { self.constant(tensor) }
    }

    /// A value there is that fits, or a new one.
    pub fn value(&mut self, dtype: DType, fits: impl Fn(&[usize]) -> bool, otherwise: &[usize]) -> V {
        let ok = |m: &Maker, v: V| m.ty(v).dtype == dtype && fits(&m.ty(v).shape) && m.ty(v).elems() < 40_000;
        let found: Vec<V> = self.live.iter().copied().filter(|&v| ok(self, v)).collect();
        if !found.is_empty() && self.random.chance(75) {
            return self.random.pick(&found);
        }
        self.fresh(dtype, otherwise)
    }

    /// A tensor of floats with so many dimensions.
    pub fn floats(&mut self, rank: usize) -> V {
        let shape = self.extents(rank);
        self.value(DType::F32, |s| s.len() == rank, &shape)
    }

    /// Any tensor of floats with at least so many dimensions.
    pub fn any(&mut self, least: usize) -> V {
        let most = if self.random.chance(8) { 6 } else { (least as i64 + 2).max(4) };
        let rank = self.random.range(least as i64, most) as usize;
        let shape = self.extents(rank);
        self.value(DType::F32, |s| s.len() >= least, &shape)
    }

    /// Adds a node with one output.
    pub fn one(&mut self, op: &str, inputs: &[V], attrs: &[(&str, Attr)]) -> Option<V> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        Some(self.node(op, &inputs, attrs, 1)?[0])
    }

    /// Adds a node; `None` where it cannot be compared, or where its row refuses it, which is noted.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[Option<V>],
        attrs: &[(&str, Attr)],
        outputs: usize,
    ) -> Option<Vec<V>> {
        match self.try_node(op, inputs, attrs, outputs)? {
            Ok(made) => Some(made),
            Err(why) => {
                self.refused.push(why);
                None
            }
        }
    }

    /// Adds a node; `None` where it cannot be compared; otherwise its outputs or the refusal. With 0
    /// outputs wanted it has all that its row gives.
    pub fn try_node(
        &mut self,
        op: &str,
        inputs: &[Option<V>],
        attrs: &[(&str, Attr)],
        outputs: usize,
    ) -> Option<Result<Vec<V>, String>> {
        let (domain, name) = op.rsplit_once('.').unwrap_or(("", op));
        let row = find(domain, name).unwrap_or_else(|| panic!("no operator {op}"));
        let opset = match domain {
            "" => self.opset,
            "ai.onnx.ml" => 3,
            _ => 1,
        };
        let exact = inputs.iter().flatten().all(|&v| self.exact[v as usize]);
        if !row.versions.iter().any(|&v| v <= opset) || (JUMPS.contains(&op) && !exact) {
            return None;
        }
        let attrs = Attrs(attrs.iter().map(|(n, a)| (n.to_string(), a.clone())).collect());
        let node_name = format!("n{}", self.nodes.len());
        let node = Node {
            op: row,
            opset,
            name: node_name.clone(),
            attrs,
            inputs: inputs.to_vec(),
            outputs: vec![None; outputs],
        };
        let types = match (row.infer)(&Ctx { graph: &self.graph, node: &node }) {
            Ok(types) => types,
            Err(e) => return Some(Err(format!("{op} of opset {opset}: {e}"))),
        };
        if types.iter().any(|ty| check_size(ty).is_err() || ty.elems() > 200_000) {
            return None;
        }
        let wanted = if outputs == 0 { types.len() } else { outputs };
        let mut made = Vec::new();
        for ty in types.into_iter().take(wanted) {
            let same = exact && (EXACT.contains(&op) || !ty.dtype.is_float());
            let id = self.graph.add_value(format!("v{}", self.exact.len()), ty);
            made.push(self.added(id, same));
        }
        inputs.iter().flatten().for_each(|&v| self.read[v as usize] = true);
        let called = |v: &Option<V>| v.map_or(String::new(), |v| self.graph.value(v).name.clone());
        self.nodes.push(pb::NodeProto {
            input: inputs.iter().map(called).collect(),
            output: made.iter().map(|&v| self.graph.value(v).name.clone()).collect(),
            name: node_name,
            op_type: name.to_string(),
            domain: domain.to_string(),
            attribute: node.attrs.0.iter().map(|(name, a)| attribute(name, a)).collect(),
            ..Default::default()
        });
        self.live.extend(&made);
        Some(Ok(made))
    }

    /// Adds a node as it is, with a name: one with bodies, which no row types by itself. It reads these.
    pub fn raw(&mut self, mut proto: pb::NodeProto, reads: &[V], types: &[TensorType]) -> Vec<V> {
        let mut made = Vec::new();
        for ty in types {
            let id = self.graph.add_value(format!("v{}", self.exact.len()), ty.clone());
            made.push(self.added(id, false));
        }
        reads.iter().for_each(|&v| self.read[v as usize] = true);
        proto.name = format!("n{}", self.nodes.len());
        proto.output = made.iter().map(|&v| self.name(v)).collect();
        self.nodes.push(proto);
        self.live.extend(&made);
        made
    }

    /// The name of a value.
    pub fn name(&self, v: V) -> String {
        self.graph.value(v).name.clone()
    }

    /// How many nodes there are: for names in bodies.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// No later node reads these: their last place may differ.
    pub fn close(&mut self, values: &[V]) {
        self.live.retain(|v| !values.contains(v));
    }

    /// The model file, and its inputs. Values that nothing reads are outputs, and some others.
    pub fn finish(mut self) -> (Vec<u8>, Vec<Tensor>) {
        let mut outputs = Vec::new();
        for &v in &self.live.clone() {
            if !self.read[v as usize] || self.random.chance(15) {
                outputs.push(v);
            }
        }
        for node in &self.nodes {
            for name in &node.output {
                let v = self.graph.values.iter().position(|x| x.name == *name).expect("a value") as V;
                if !self.read[v as usize] && !outputs.contains(&v) {
                    outputs.push(v);
                }
            }
        }
        let info = |v: V| pb::ValueInfoProto {
            name: self.graph.value(v).name.clone(),
            r#type: Some(type_proto(self.ty(v))),
            ..Default::default()
        };
        let constants = self.graph.values.iter().filter_map(|v| Some((&v.name, v.constant.as_ref()?)));
        let graph = pb::GraphProto {
            name: "random".into(),
            node: self.nodes.clone(),
            initializer: constants.map(|(name, t)| tensor_proto(name, t)).collect(),
            input: self.given.iter().map(|(v, _)| info(*v)).collect(),
            output: outputs.into_iter().map(info).collect(),
            ..Default::default()
        };
        let import = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.into(), version };
        let model = pb::ModelProto {
            ir_version: if self.opset < 21 { 8 } else { 10 },
            opset_import: vec![import("", self.opset), import("com.microsoft", 1), import("ai.onnx.ml", 3)],
            graph: Some(graph),
            ..Default::default()
        };
        (model.encode_to_vec(), self.given.into_iter().map(|(_, t)| t).collect())
    }
}

/// A name with its domain.
pub fn full(domain: &str, name: &str) -> String {
    if domain.is_empty() { name.to_string() } else { format!("{domain}.{name}") }
}

fn tensor_proto(name: &str, tensor: &Tensor) -> pb::TensorProto {
    pb::TensorProto::decode(&*encode_tensor(name, tensor)).expect("what was encoded")
}

pub fn type_proto(ty: &TensorType) -> pb::TypeProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&d: &usize| Dimension { value: Some(Value::DimValue(d as i64)), ..Default::default() };
    let shape = pb::TensorShapeProto { dim: ty.shape.iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: ty.dtype as u32 as i32, shape: Some(shape) };
    pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() }
}

fn attribute(name: &str, attr: &Attr) -> pb::AttributeProto {
    use pb::attribute_proto::AttributeType as Type;
    let mut proto = pb::AttributeProto { name: name.to_string(), ..Default::default() };
    let kind = match attr {
        Attr::Int(i) => {
            proto.i = *i;
            Type::Int
        }
        Attr::Float(f) => {
            proto.f = *f;
            Type::Float
        }
        Attr::Str(s) => {
            proto.s = s.clone().into_bytes();
            Type::String
        }
        Attr::Ints(list) => {
            proto.ints = list.clone();
            Type::Ints
        }
        Attr::Floats(list) => {
            proto.floats = list.clone();
            Type::Floats
        }
        Attr::Strs(list) => {
            proto.strings = list.iter().map(|s| s.clone().into_bytes()).collect();
            Type::Strings
        }
        Attr::Tensor(tensor) => {
            proto.t = Some(tensor_proto("", tensor));
            Type::Tensor
        }
        Attr::Graph(_) => panic!("no recipe makes bodies"),
    };
    proto.r#type = kind as i32;
    proto
}
