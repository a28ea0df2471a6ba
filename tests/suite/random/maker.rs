//! Builds a random graph node by node: every node is typed by its row of the operator table, and
//! the graph is written as an ONNX model with its inputs.

use super::draw::{EXACT, JUMPS, Random};
use super::file::{attribute, full, tensor_proto, type_proto};
use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::{Attr, Attrs, Graph, Node, ValueId, check_size};
use lmc::ops::{Ctx, find};
use lmc::scalar::Scalar;
use prost::Message;
use tract_onnx::pb;

/// A value of the graph.
pub type V = ValueId;

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
                d if d.is_float() => Scalar::from_f64(d, self.random.between(-128, 128) as f64 / 64.0),
                DType::Bool => Scalar::from_i64(dtype, self.random.between(0, 1)),
                DType::U8 => Scalar::from_i64(dtype, self.random.between(0, 255)),
                DType::I8 => Scalar::from_i64(dtype, self.random.between(-128, 127)),
                DType::U16 | DType::U32 | DType::U64 => Scalar::from_i64(dtype, self.random.between(0, 20)),
                _ => Scalar::from_i64(dtype, self.random.between(-9, 9)),
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

    /// A constant in another type of floats, without a node.
    pub fn narrowed(&mut self, v: V, to: DType) -> V {
        let tensor = self.graph.value(v).constant.clone().expect("a constant");
        let (ty, size) = (TensorType::new(to, self.shape(v)), to.size());
        let values = tensor.to_vec::<f32>().expect("floats");
        let bytes = values
            .iter()
            .flat_map(|&v| Scalar::from_f64(to, f64::from(v)).bits.to_le_bytes()[..size].to_vec());
        let tensor = Tensor::from_bytes(ty, bytes.collect::<Vec<u8>>()).expect("as many bytes");
        self.constant(tensor)
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
        let rank = self.random.between(least as i64, most) as usize;
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

    /// A value has no rounding in it, as its recipe knows.
    pub fn state_exact(&mut self, v: V) {
        self.exact[v as usize] = true;
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
        let values = self.graph.values.iter().zip(&self.read).filter(|(_, read)| **read);
        let constants = values.filter_map(|(v, _)| Some((&v.name, v.constant.as_ref()?)));
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
