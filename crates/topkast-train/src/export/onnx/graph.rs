//! An ONNX graph in the making (field numbers are those of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>).

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::Dtype;

use super::wire::Message;
use crate::export::container::{Content, Tensor};

/// Operators as of this version of the standard: the first with layer normalization.
const OPSET: i64 = 17;
/// The version of the file format that came with it.
const IR_VERSION: i64 = 8;

/// A value's name.
pub(super) type Value = String;

/// A node's setting.
pub(super) enum Attribute {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
    Float(&'static str, f32),
}

/// How long an axis is.
pub(super) enum Axis {
    Fixed(usize),
    /// As long as the caller likes; where a name comes twice, the same.
    Free(&'static str),
}

/// Nodes, and what they compute from. Weights are borrowed and written when all else is known.
#[derive(Default)]
pub(super) struct Graph<'a> {
    nodes: Message,
    count: usize,
    tensors: Vec<Tensor<'a>>,
    ends: Message,
}

impl<'a> Graph<'a> {
    /// The one output of a new node.
    pub(super) fn node(&mut self, kind: &str, inputs: &[&str], attributes: &[Attribute]) -> Value {
        let output = format!("{}_{}", kind.to_lowercase(), self.count);
        self.named_node(kind, inputs, attributes, &output);
        output
    }

    fn named_node(&mut self, kind: &str, inputs: &[&str], attributes: &[Attribute], output: &str) {
        let mut node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input));
        node = node.bytes(2, output).bytes(3, format!("{kind}.{}", self.count)).bytes(4, kind);
        self.count += 1;
        for attribute in attributes {
            let (float, int, ints) = (1, 2, 7);
            let message = match attribute {
                Attribute::Int(name, value) => Message::default().bytes(1, name).int(3, *value).int(20, int),
                Attribute::Float(name, value) => {
                    Message::default().bytes(1, name).float(2, *value).int(20, float)
                }
                Attribute::Ints(name, values) => {
                    let all =
                        values.iter().fold(Message::default().bytes(1, name), |it, &value| it.int(8, value));
                    all.int(20, ints)
                }
            };
            node = node.message(5, &message);
        }
        self.nodes = std::mem::take(&mut self.nodes).message(1, &node);
    }

    /// A tensor of the network under its own name.
    pub(super) fn tensor(&mut self, tensor: Tensor<'a>) -> Value {
        let name = tensor.name.clone();
        self.tensors.push(tensor);
        name
    }

    fn constant(&mut self, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Value {
        let name = format!("constant_{}", self.tensors.len());
        self.tensor(Tensor { name, dtype, shape, content: Content::Bytes(Cow::Owned(bytes)) })
    }

    /// A single number without axes.
    pub(super) fn number(&mut self, value: f32) -> Value {
        self.constant(Dtype::F32, Vec::new(), value.to_le_bytes().to_vec())
    }

    /// Numbers with these axes.
    pub(super) fn numbers(&mut self, (values, axes): (Vec<f32>, Vec<usize>)) -> Value {
        self.constant(Dtype::F32, axes, bytemuck::cast_slice(&values).to_vec())
    }

    /// A single integer without axes.
    pub(super) fn integer(&mut self, value: i64) -> Value {
        self.constant(Dtype::I64, Vec::new(), value.to_le_bytes().to_vec())
    }

    /// A vector of integers.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        self.constant(Dtype::I64, vec![values.len()], bytemuck::cast_slice(values).to_vec())
    }

    /// A row `[1 × values]` of numbers in double precision.
    pub(super) fn doubles(&mut self, values: &[f64]) -> Value {
        self.constant(Dtype::F64, vec![1, values.len()], bytemuck::cast_slice(values).to_vec())
    }

    /// What the caller gives.
    pub(super) fn input(&mut self, name: &str, dtype: Dtype, axes: &[Axis]) {
        self.end(11, name, dtype, axes);
    }

    /// What the caller gets under this name: `value`.
    pub(super) fn output(&mut self, name: &str, value: &str, axes: &[Axis]) {
        self.named_node("Identity", &[value], &[], name);
        self.end(12, name, Dtype::F32, axes);
    }

    fn end(&mut self, field: u32, name: &str, dtype: Dtype, axes: &[Axis]) {
        let shape = axes.iter().fold(Message::default(), |shape, axis| {
            let axis = match axis {
                Axis::Fixed(length) => Message::default().int(1, *length as i64),
                Axis::Free(name) => Message::default().bytes(2, name),
            };
            shape.message(1, &axis)
        });
        let tensor = Message::default().int(1, code(dtype)).message(2, &shape);
        let value = Message::default().bytes(1, name).message(2, &Message::default().message(1, &tensor));
        self.ends = std::mem::take(&mut self.ends).message(field, &value);
    }

    /// The bytes of a file of it, within some.
    pub(super) fn bytes(&self) -> u64 {
        let tensors =
            self.tensors.iter().map(|tensor| (head(tensor).0.len() as u64).saturating_add(tensor.bytes()));
        tensors.fold((self.nodes.0.len() + self.ends.0.len()) as u64, u64::saturating_add)
    }

    /// Writes the model to `path`.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let name = Message::default().bytes(2, "topkast");
        let heads: Vec<Message> = self.tensors.iter().map(framed_head).collect();
        let tensors = self.tensors.iter().zip(&heads);
        let length = tensors.clone().map(|(tensor, head)| head.0.len() as u64 + tensor.bytes()).sum::<u64>()
            + (self.nodes.0.len() + name.0.len() + self.ends.0.len()) as u64;
        let opset = Message::default().bytes(1, "").int(2, OPSET);
        let mut model = Message::default()
            .int(1, IR_VERSION)
            .bytes(2, "topkast")
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .message(8, &opset);
        model.begin(7, length);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        [&model, &self.nodes, &name].into_iter().try_for_each(|part| file.write_all(&part.0))?;
        for (tensor, head) in tensors {
            file.write_all(&head.0)?;
            tensor.write(&mut file)?;
        }
        file.write_all(&self.ends.0)?;
        file.flush()
    }
}

/// What a tensor's message holds before its numbers.
fn head(tensor: &Tensor<'_>) -> Message {
    let dims = tensor.shape.iter().fold(Message::default(), |dims, &length| dims.int(1, length as i64));
    let mut head = dims.int(2, code(tensor.dtype)).bytes(8, &tensor.name);
    head.begin(9, tensor.bytes());
    head
}

/// The same as a field of the graph.
fn framed_head(tensor: &Tensor<'_>) -> Message {
    let head = head(tensor);
    let mut framed = Message::default();
    framed.begin(5, head.0.len() as u64 + tensor.bytes());
    framed.0.extend_from_slice(&head.0);
    framed
}

/// The standard's number for a type.
fn code(dtype: Dtype) -> i64 {
    match dtype {
        Dtype::F32 => 1,
        Dtype::I64 => 7,
        Dtype::F64 => 11,
        other => unreachable!("no value is {other}"),
    }
}
