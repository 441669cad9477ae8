//! ONNX files are whole messages of the format, and their graphs compute from what there is. That they compute the right
//! thing is for `bench/exports` to show, with ONNX's own checker and runtime.

use std::collections::HashSet;

use super::*;

/// A field of a message: its number, and its integer or bytes.
enum Field<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    Float,
}

/// The fields of a message; panics where it is none.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Int(varint(&mut bytes)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (field, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(field)
            }
            5 => {
                bytes = &bytes[4..];
                Field::Float
            }
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, field));
    }
    all
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The messages or texts in a field.
fn of(message: &[u8], number: u64) -> Vec<&[u8]> {
    let bytes = |(found, field)| match field {
        Field::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(bytes).collect()
}

fn texts(message: &[u8], number: u64) -> Vec<String> {
    of(message, number).into_iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

/// Checks the file at `path`; returns the names of the graph's inputs and outputs.
fn check(path: &Path, numbers: usize) -> [Vec<String>; 2] {
    let model = fs::read(path).unwrap();
    let graph = of(&model, 7)[0];
    let mut known = HashSet::new();
    let mut floats = 0;
    for tensor in of(graph, 5) {
        let mut length = 1;
        let mut kind = 0;
        for (number, field) in fields(tensor) {
            match (number, field) {
                (1, Field::Int(dim)) => length *= dim as usize,
                (2, Field::Int(code)) => kind = code,
                _ => {}
            }
        }
        let width = if kind == 1 { 4 } else { 8 };
        assert_eq!(of(tensor, 9)[0].len(), width * length);
        floats += if texts(tensor, 8)[0].starts_with("constant") { 0 } else { length };
        assert!(known.insert(texts(tensor, 8).remove(0)), "a tensor comes twice");
    }
    assert_eq!(floats, numbers, "all of the network, and nothing twice");
    let ends =
        [11, 12].map(|number| of(graph, number).into_iter().map(|end| texts(end, 1).remove(0)).collect());
    let [inputs, outputs]: &[Vec<String>; 2] = &ends;
    known.extend(inputs.iter().cloned());
    for node in of(graph, 1) {
        for input in texts(node, 1) {
            assert!(known.contains(&input), "{} needs {input}", texts(node, 3)[0]);
        }
        for output in texts(node, 2) {
            assert!(known.insert(output), "a value comes twice");
        }
    }
    assert!(outputs.iter().all(|output| known.contains(output)));
    ends
}

/// Numbers of all parameters, zeros included.
fn numbers(trained: &mut Trained) -> usize {
    let mut numbers = 0;
    trained.network.visit(&mut |_, parameter| {
        numbers += match parameter {
            ParameterMut::Sparse(weight) => weight.pattern().total() as usize,
            other => other.values().len(),
        };
    });
    numbers
}

#[test]
fn an_mlp_is_a_whole_graph() {
    for activation in ["relu", "gelu"] {
        let place = Workplace::new();
        let setting = format!("model.activation={activation}");
        let (mut trained, path) = exported(&place, mlp(&place, &[&setting]), Format::Onnx);
        assert_eq!(check(&path, numbers(&mut trained)), [["pixels"], ["logits"]]);
    }
}

#[test]
fn a_transformer_xl_is_a_whole_graph() {
    for more in [&[][..], &["model.adaptive_cutoffs=[40, 110]"], &["model.evaluation_memory=0"]] {
        let place = Workplace::new();
        let (trainer, _) = text_trainer(&place, more);
        let (mut trained, path) = exported(&place, trainer, Format::Onnx);
        let [inputs, outputs] = check(&path, numbers(&mut trained));
        assert_eq!(inputs, ["tokens", "memory.0", "memory.1"]);
        assert_eq!(outputs, ["memory.0.next", "memory.1.next", "logits"]);
    }
}
