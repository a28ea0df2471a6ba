//! Reads the text form of graphs (grammar in `docs/ir.md`): the inverse of [`super::text`].

use super::{Attr, Attrs, Graph, Node, Operator, Symbol, Value, ValueId};
use crate::base::lex::Cursor;
use crate::base::{DType, TensorType, elements};
use crate::error::Result;
use std::collections::HashMap;

/// Finds an operator's row by domain and name.
type Find = fn(&str, &str) -> Option<&'static Operator>;

/// Reads one graph of the operators that `find` knows. Errors name the line. What the grammar allows
/// need not be a valid graph: that is for [`super::verify`].
pub fn parse(text: &str, find: Find) -> Result<Graph> {
    let mut cursor = Cursor::new(text)?;
    let graph = graph(&mut cursor, &mut Around { find, graphs: Vec::new() })?;
    cursor.end()?;
    Ok(graph)
}

/// Bodies nest no deeper in a text.
const MAX_DEPTH: usize = 24;

type Names = HashMap<String, ValueId>;

/// What a graph's text may refer to: operators, and the values of the graphs around it.
struct Around {
    find: Find,
    graphs: Vec<Names>,
}

fn graph(cursor: &mut Cursor, around: &mut Around) -> Result<Graph> {
    if around.graphs.len() > MAX_DEPTH {
        return Err(cursor.error("graphs are nested too deep"));
    }
    cursor.expect("graph")?;
    let mut graph = Graph { name: cursor.name("the graph's name")?, ..Graph::default() };
    let mut names = Names::new();
    cursor.expect("{")?;
    while !cursor.eat("}") {
        if cursor.eat("symbol") {
            let name = if cursor.is("<=") { None } else { Some(cursor.name("a name")?) };
            cursor.expect("<=")?;
            graph.symbols.push(Symbol { name, max: cursor.int()? });
        } else if cursor.eat("input") {
            let id = typed(cursor, &mut graph, &mut names)?;
            graph.inputs.push(id);
        } else if cursor.eat("capture") {
            let id = typed(cursor, &mut graph, &mut names)?;
            cursor.expect("=")?;
            let from = cursor.name("a value")?;
            let outer = around.graphs.last().and_then(|s| s.get(&from)).copied();
            let outer =
                outer.ok_or_else(|| cursor.error(format!("no value '{from}' in the graph around")))?;
            graph.captures.push((outer, id));
        } else if cursor.eat("const") {
            let id = typed(cursor, &mut graph, &mut names)?;
            cursor.expect("=")?;
            let value = &mut graph.values[id as usize];
            super::check_size(&value.ty)?;
            value.constant = Some(elements::read(cursor, &value.ty)?);
        } else if cursor.eat("output") {
            loop {
                let id = value(cursor, &names)?;
                graph.outputs.push(id);
                if !cursor.eat(",") {
                    break;
                }
            }
        } else {
            node(cursor, &mut graph, &mut names, around)?;
        }
    }
    Ok(graph)
}

fn value(cursor: &mut Cursor, names: &Names) -> Result<ValueId> {
    let name = cursor.name("a value")?;
    names.get(&name).copied().ok_or_else(|| cursor.error(format!("no value '{name}' yet")))
}

/// `NAME: TYPE`, a new value.
fn typed(cursor: &mut Cursor, graph: &mut Graph, names: &mut Names) -> Result<ValueId> {
    let name = cursor.name("a name")?;
    cursor.expect(":")?;
    let (ty, symbolic) = tensor_type(cursor, graph)?;
    let id = graph.values.len() as ValueId;
    if names.insert(name.clone(), id).is_some() {
        return Err(cursor.error(format!("two values are named '{name}'")));
    }
    graph.values.push(Value { name, ty, symbolic, constant: None, flags: None });
    Ok(id)
}

fn tensor_type(cursor: &mut Cursor, graph: &Graph) -> Result<(TensorType, Vec<Option<u32>>)> {
    let name = cursor.name("an element type")?;
    let dtype = DType::from_name(&name).ok_or_else(|| cursor.error(format!("no element type '{name}'")))?;
    let (mut shape, mut symbolic) = (Vec::new(), Vec::new());
    cursor.expect("[")?;
    while !cursor.eat("]") {
        if cursor.eat("?") {
            let symbol: u32 = cursor.int()?;
            let known = graph.symbols.get(symbol as usize);
            shape.push(known.ok_or_else(|| cursor.error(format!("no symbol {symbol}")))?.max);
            symbolic.push(Some(symbol));
        } else {
            shape.push(cursor.int()?);
            symbolic.push(None);
        }
        if !cursor.is("]") {
            cursor.expect(",")?;
        }
    }
    if symbolic.iter().all(Option::is_none) {
        symbolic.clear();
    }
    Ok((TensorType::new(dtype, shape), symbolic))
}

fn operator(cursor: &mut Cursor, find: Find) -> Result<&'static Operator> {
    let name = cursor.name("an operator")?;
    let (domain, plain) = name.rsplit_once('.').unwrap_or(("", &name));
    find(domain, plain).ok_or_else(|| cursor.error(format!("no operator '{name}'")))
}

fn node(cursor: &mut Cursor, graph: &mut Graph, names: &mut Names, around: &mut Around) -> Result<()> {
    let mut outputs = Vec::new();
    loop {
        outputs.push(if cursor.eat("_") { None } else { Some(typed(cursor, graph, names)?) });
        if !cursor.eat(",") {
            break;
        }
    }
    cursor.expect("=")?;
    let op = operator(cursor, around.find)?;
    let opset = if cursor.eat("@") { cursor.int()? } else { i64::MAX };
    let mut inputs = Vec::new();
    cursor.expect("(")?;
    while !cursor.eat(")") {
        inputs.push(if cursor.eat("_") { None } else { Some(value(cursor, names)?) });
        if !cursor.is(")") {
            cursor.expect(",")?;
        }
    }
    let first = outputs.iter().flatten().next().map(|&o| graph.value(o).name.clone());
    let name = cursor.string().unwrap_or_else(|| first.unwrap_or_default());
    let mut attrs = Attrs::default();
    if cursor.eat("{") {
        while !cursor.eat("}") {
            let key = cursor.name("an attribute")?;
            cursor.expect("=")?;
            attrs.set(&key, attr(cursor)?);
            if !cursor.is("}") {
                cursor.expect(",")?;
            }
        }
    }
    while let Some(key) = cursor.before("=", "graph") {
        around.graphs.push(names.clone());
        let body = self::graph(cursor, around);
        around.graphs.pop();
        attrs.set(&key, Attr::Graph(Box::new(body?)));
    }
    graph.nodes.push(Node { op, opset, name, attrs, inputs, outputs });
    Ok(())
}

fn items<T>(cursor: &mut Cursor, read: impl Fn(&mut Cursor) -> Result<T>) -> Result<Vec<T>> {
    let mut items = Vec::new();
    cursor.expect("[")?;
    while !cursor.eat("]") {
        items.push(read(cursor)?);
        if !cursor.is("]") {
            cursor.expect(",")?;
        }
    }
    Ok(items)
}

fn float(cursor: &mut Cursor) -> Result<f32> {
    let text = cursor.number()?;
    text.parse().map_err(|_| cursor.error(format!("'{text}' is not a float")))
}

fn attr(cursor: &mut Cursor) -> Result<Attr> {
    if let Some(text) = cursor.string() {
        return Ok(Attr::Str(text));
    }
    if cursor.is("[") {
        return Ok(Attr::Ints(items(cursor, Cursor::int)?));
    }
    if cursor.eat("floats") {
        return Ok(Attr::Floats(items(cursor, float)?));
    }
    if cursor.eat("strings") {
        return Ok(Attr::Strs(items(cursor, |c| c.name("a string"))?));
    }
    if cursor.eat("tensor") {
        let (ty, _) = tensor_type(cursor, &Graph::default())?;
        cursor.expect("=")?;
        super::check_size(&ty)?;
        return Ok(Attr::Tensor(elements::read(cursor, &ty)?));
    }
    let text = cursor.number()?;
    if cursor.eat("f") {
        let value = text.parse().map_err(|_| cursor.error(format!("'{text}' is not a float")))?;
        return Ok(Attr::Float(value));
    }
    let value =
        text.parse().map_err(|_| cursor.error(format!("'{text}' is not an integer; floats end in f")))?;
    Ok(Attr::Int(value))
}
