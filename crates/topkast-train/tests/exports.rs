//! A network from an export answers as the one that was exported, and files hold what they are said to hold.

mod common;
#[path = "exports/onnx.rs"]
mod onnx;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Workplace, finish, tensors};
use safetensors::Dtype;
use topkast_nn::ParameterMut;
use topkast_train::{Config, Format, Trained, Trainer, load_trained};

const LARGEST: u64 = 1 << 32;

/// Settings of a language model of some bytes in the file `text`.
fn language_model(text: &Path, more: &[&str]) -> Config {
    let base = [
        "data.kind=bytes",
        &format!("data.path={}", text.display()),
        "model.kind=transformer-xl",
        "model.layers=2",
        "model.width=24",
        "model.heads=3",
        "model.feed_forward=40",
        "model.activation=gelu",
        "model.segment=8",
        "model.memory=6",
        "model.evaluation_memory=10",
        "sparsity.forward=0.8",
        "sparsity.backward=0.6",
        "train.batch=2",
        "train.steps=3",
    ];
    Config::load(None, &[&base[..], more].concat().iter().map(|&it| it.to_owned()).collect::<Vec<_>>())
        .unwrap()
}

/// Trains, and exports in this format; the trained network and where it was exported to.
fn exported(place: &Workplace, mut trainer: Trainer, format: Format) -> (Trained, PathBuf) {
    finish(&mut trainer);
    let (checkpoint, path) = (place.join("state.safetensors"), place.join("export"));
    trainer.save(&checkpoint, 0.0).unwrap();
    let mut trained = load_trained(&checkpoint).unwrap();
    let bytes = trained.export(format, &path, LARGEST).unwrap();
    assert_eq!(bytes, fs::metadata(&path).unwrap().len());
    (trained, path)
}

fn mlp(place: &Workplace, more: &[&str]) -> Trainer {
    place.trainer(more)
}

fn text_trainer(place: &Workplace, more: &[&str]) -> (Trainer, PathBuf) {
    let text = place.join("text");
    fs::write(&text, "To be, or not to be, that is the question. ".repeat(40)).unwrap();
    (Trainer::new(language_model(&text, more)).unwrap(), text)
}

/// Reads the export back, and checks that it scores as the network it is of and exports to the same file.
fn check_back(place: &Workplace, mut trained: Trained, path: &Path, data: &Path) {
    let mut back = load_trained(path).unwrap();
    assert!(back.exported && !trained.exported);
    assert_eq!((back.state.step, &back.state.data), (trained.state.step, &trained.state.data));
    let (got, want) = (back.score(data).unwrap(), trained.score(data).unwrap());
    assert_eq!(got, want);
    for weight in back.network.sparse_weights() {
        assert!(weight.is_fixed() && weight.reservoir().is_none());
        assert_eq!(weight.counts().active, weight.counts().backward);
    }
    let again = place.join("again");
    back.export(Format::Sparse, &again, LARGEST).unwrap();
    assert_eq!(fs::read(again).unwrap(), fs::read(path).unwrap());
}

#[test]
fn an_mlp_comes_back() {
    for more in [
        &["model.hidden=[24, 16]"][..],
        &["model.hidden=[700]", "model.activation=gelu", "sparsity.keep_dense=[]"],
        &["model.hidden=[24]", "sparsity.method=dense"],
        &["model.hidden=[24]", "sparsity.method=pruning"],
        &["model.hidden=[24]", "sparsity.distribution=global"],
    ] {
        let place = Workplace::new();
        let (trained, path) = exported(&place, mlp(&place, more), Format::Sparse);
        check_back(&place, trained, &path, &place.join(""));
    }
}

#[test]
fn a_transformer_xl_comes_back() {
    for more in [&[][..], &["model.adaptive_cutoffs=[40, 110]", "model.adaptive_div_value=2"]] {
        let place = Workplace::new();
        let (trainer, text) = text_trainer(&place, more);
        let (trained, path) = exported(&place, trainer, Format::Sparse);
        check_back(&place, trained, &path, &text);
    }
}

/// One image at a time, which takes other kernels.
#[test]
fn an_export_tells_one_image_as_the_run_does() {
    let place = Workplace::new();
    let (mut trained, path) = exported(&place, mlp(&place, &["model.hidden=[70, 50]"]), Format::Sparse);
    let mut back = load_trained(&path).unwrap();
    let [got, want] = [&mut back, &mut trained].map(|trained| {
        let topkast_train::Purpose::Classifier(mut network) = trained.purpose() else { panic!("of images") };
        let pixels: Vec<u8> = (0..64).map(|pixel| (pixel * 37 % 256) as u8).collect();
        network.probabilities(&pixels)
    });
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-5), "{got:?} {want:?}");
}

/// Every tensor of the dense format has the network's numbers, zeros where it has none, and PyTorch's names.
#[test]
fn dense_tensors_are_the_network_with_its_zeros() {
    let place = Workplace::new();
    let (trainer, _) = text_trainer(&place, &[]);
    let (mut trained, path) = exported(&place, trainer, Format::Dense);
    let mut all = tensors(&path);
    trained.network.visit(&mut |name, parameter| {
        let (shape, want) = match parameter {
            ParameterMut::Sparse(weight) => {
                let (csr, values) = (weight.pattern().active(), weight.active_values());
                let mut dense = vec![0.0; csr.rows() * csr.width()];
                csr.flat_indices().zip(values).for_each(|(index, &value)| dense[index as usize] = value);
                (vec![csr.rows(), csr.width()], dense)
            }
            ParameterMut::Weight { parameter, shape } => (shape.to_vec(), parameter.values.to_vec()),
            ParameterMut::Bias(parameter) => (vec![parameter.values.len()], parameter.values.to_vec()),
            ParameterMut::Statistic(values) => (vec![values.len()], values.to_vec()),
        };
        let name = name.replace("norm.gain", "norm.weight");
        let (dtype, found, bytes) = all.remove(&name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!((dtype, found), (Dtype::F32, shape), "{name}");
        assert_eq!(bytes, want.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(), "{name}");
    });
    assert!(all.is_empty(), "{:?}", all.keys());
    let refused = load_trained(&path).err().unwrap().to_string();
    assert!(refused.contains("its format is `dense`, which Topkast does not read back"), "{refused}");
}

/// A file that would be larger than allowed is not begun; one of non-zeros has no such limit.
#[test]
fn zeros_are_written_out_up_to_a_limit() {
    let place = Workplace::new();
    let (mut trained, path) = exported(&place, mlp(&place, &[]), Format::Dense);
    fs::remove_file(&path).unwrap();
    for format in [Format::Dense, Format::Onnx] {
        let refused = trained.export(format, &path, 1000).unwrap_err();
        assert!(refused.is_bad_input() && refused.to_string().contains("--largest 1 allows it"), "{refused}");
        assert!(!path.exists());
    }
    trained.export(Format::Sparse, &path, 1000).unwrap();
}

/// What is in the run's directory is nobody else's business.
#[test]
fn an_export_names_no_path() {
    let place = Workplace::new();
    let weights = place.weights(&[]);
    let trainer = mlp(&place, &[&weights, "sparsity.reservoir=mmap"]);
    let (_, path) = exported(&place, trainer, Format::Sparse);
    let folder = place.join("").display().to_string();
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(folder.len()).any(|part| part == folder.as_bytes()));
    load_trained(&path).unwrap();
}
